#!/usr/bin/env bash
# Installs the library into a temporary prefix, builds examples/minimal against it by pkg-config alone, and runs it on
# 2 ranks over mpi and over tcp.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/env.sh"
build=${BUILD:-$ROOT/build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() { # name, command...
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
    tail -n 1 "$work/log"
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$name"
    tail -n 30 "$work/log"
  fi
}
# The prefix is fixed when the project is configured; --destdir moves it, and PKG_CONFIG_SYSROOT_DIR would move
# libtorch too. So the installed acp.pc is rewritten to where it lies now.
check install env DESTDIR="$work/root" meson install -C "$build" --no-rebuild
pc=$(find "$work/root" -name acp.pc | head -n 1)
prefix=$(sed -n 's/^prefix=//p' "$pc")
sed -i "s|^prefix=.*|prefix=$work/root$prefix|" "$pc"
export PKG_CONFIG_PATH=${pc%/*}
# Where they will lie when nothing moves them.
libdir=$(find "$work/root" -name 'libacp.so.0' -printf '%h\n' | head -n 1)
runpath() { readelf -d "$work/root$prefix/bin/acp-train" | grep PATH | tr '[]:' '\n' | grep -x -- "${libdir#"$work/root"}"; }
check 'the programs look for the library where it lies' runpath
check configure meson setup "$work/build" "$ROOT/examples/minimal"
check compile ninja -C "$work/build"
check 'one rank' "$work/build/minimal"
check '2 ranks over mpi' timeout 120 "${MPIRUN[@]}" -np 2 "$work/build/minimal" acpsgd:rank=2
check '2 ranks over tcp' timeout 120 "$ROOT/scripts/run_tcp.sh" 2 "$work/build/minimal" powersgd:rank=2
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
