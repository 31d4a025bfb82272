#!/usr/bin/env bash
# Builds into build/ (or BUILD=folder): configures when need be, notices new source files.
#   scripts/build.sh [meson options...] [-- ninja arguments...]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"
build=${BUILD:-build}
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1") && shift; done
[ $# -eq 0 ] || shift
sources=$(find . \( -name 'build*' -o -name '.*' ! -name . \) -prune -o -name '*.cpp' -print | sort | cksum)
if [ ! -f "$build/build.ninja" ]; then
  meson setup "$build" "${options[@]}" >"/tmp/acp-meson-$$.log" || { cat "/tmp/acp-meson-$$.log" >&2; exit 1; }
  rm -f "/tmp/acp-meson-$$.log"
elif [ ${#options[@]} -gt 0 ] || [ "$(cat "$build/.sources" 2>/dev/null)" != "$sources" ]; then
  meson setup --reconfigure "$build" "${options[@]}" >/dev/null
fi
printf '%s' "$sources" >"$build/.sources"
ninja -C "$build" "$@" >"$build/.log" 2>&1 || { grep -E -A12 'error|FAILED' "$build/.log" | head -60 >&2; fail "build failed; $build/.log has all of it"; }
