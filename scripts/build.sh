#!/usr/bin/env bash
# Configures when need be (first time, other sources, other options) and builds into build/.
#   scripts/build.sh [--configure] [meson options...] [-- ninja targets and options...]
# --configure: does not build. BUILD: another build folder.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"
build=${BUILD:-build}
case "${1:-}" in -h | --help) usage "$0" && exit ;; esac
configure_only=''
if [ "${1:-}" = --configure ]; then configure_only=1 && shift; fi
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1") && shift; done
[ $# -eq 0 ] || shift
command -v meson >/dev/null && command -v ninja >/dev/null || fail "build: Meson and Ninja are missing; run scripts/setup.sh"

mkdir -p "$build"
exec 8>"$build/.lock"
flock -n 8 || { say "build: waiting for another build in $build" && flock 8; }

# What the configuration depends on and Meson does not see.
sources=$(find ./[a-z]*/ -path './build*' -prune -o \( -name '*.cpp' -o -name '*.h' \) -print | sort | cksum)
stamp="${LIBTORCH:-} $sources"
if [ ! -f "$build/build.ninja" ]; then
  configure=(meson setup "$build" "${options[@]}")
elif [ "$(cat "$build/.stamp" 2>/dev/null)" != "$stamp" ] ||
  { [ ${#options[@]} -gt 0 ] && [ "$(cat "$build/.options" 2>/dev/null)" != "${options[*]}" ]; }; then
  configure=(meson setup --reconfigure "$build" "${options[@]}")
else
  configure=()
fi
if [ ${#configure[@]} -gt 0 ]; then
  rm -f "$build/.stamp"
  "${configure[@]}" >"$build/.configure.log" 2>&1 </dev/null || {
    grep -E 'ERROR|error:' "$build/.configure.log" >&2 || tail -n 20 "$build/.configure.log" >&2
    fail "build: configuring failed; all of it: $build/.configure.log"
  }
  printf '%s' "$stamp" >"$build/.stamp"
  printf '%s' "${options[*]}" >"$build/.options"
fi
[ -z "$configure_only" ] || exit 0

# A file that includes torch takes about 1 GB to compile.
jobs=$(awk -v cores="$(nproc)" '/^MemAvailable/ {j = int($2 / 1200000)} END {print j < 1 ? 1 : j < cores ? j : cores}' /proc/meminfo)
if [ -t 1 ]; then
  ninja -C "$build" -j "$jobs" "$@" || fail "build: failed"
else
  ninja -C "$build" -j "$jobs" "$@" >"$build/.log" 2>&1 </dev/null || {
    grep -E -A12 'error[: ]|FAILED|undefined reference' "$build/.log" | head -n 60 >&2
    fail "build: failed; all of it: $build/.log"
  }
fi
