#!/usr/bin/env bash
# Sets up, builds and runs every test; the last line is `N passed, N failed, N skipped`, summed over all runners.
#   scripts/test.sh                        everything
#   scripts/test.sh PATTERN                test cases of that name or [tag]
#   scripts/test.sh --sanitize address     comm, compressors, fusion and their tests, with address + undefined
#   scripts/test.sh --sanitize thread      the same with the thread sanitizer
# WERROR=true makes warnings errors; BUILD names another build folder; MESON_OPTIONS are passed on.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT" || exit 1

sanitize=
pattern=
while [ $# -gt 0 ]; do
  case "$1" in
    --sanitize) sanitize=${2:-} && shift 2 ;;
    -*) fail "test.sh: unknown option $1; known: --sanitize address|thread" ;;
    *) pattern=$1 && shift ;;
  esac
done
case "$sanitize" in "" | address | thread) ;; *) fail "test.sh: --sanitize takes address or thread, not $sanitize" ;; esac

passed=0 failed=0 skipped=0
started=$SECONDS

# Adds a runner's closing figures. Catch2: «All tests passed (A assertions in C test cases)» or
# «test cases: C | P passed | F failed»; scripts: «P passed, F failed[, S skipped]».
count() { # log, exit code, name
  local p f s
  if grep -q 'All tests passed' "$1"; then
    p=$(sed -n 's/.*All tests passed.* in \([0-9]*\) test case.*/\1/p' "$1" | tail -n 1) f=0
  elif grep -q '^test cases:' "$1"; then
    p=$(sed -n 's/^test cases:.* \([0-9][0-9]*\) passed.*/\1/p' "$1" | tail -n 1)
    f=$(sed -n 's/^test cases:.* \([0-9][0-9]*\) failed.*/\1/p' "$1" | tail -n 1)
  else
    p=$(sed -n 's/^\([0-9]*\) passed, [0-9]* failed.*/\1/p' "$1" | tail -n 1)
    f=$(sed -n 's/^[0-9]* passed, \([0-9]*\) failed.*/\1/p' "$1" | tail -n 1)
  fi
  s=$(grep -c '^skipped: ' "$1")
  if [ "$2" != 0 ] && [ "${f:-0}" = 0 ]; then f=1; fi # died without a closing line
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + s))
  printf '%-44s %4s passed %3s failed   %s s\n' "$3" "${p:-0}" "${f:-0}" "$((SECONDS - began))"
  if [ "$2" != 0 ]; then
    [ "$2" = 124 ] && say "  (timed out)"
    tail -n 60 "$1"
  fi
}

run() { # name, seconds, command...
  local name=$1 limit=$2 log code
  shift 2
  log=$(mktemp) began=$SECONDS
  timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 </dev/null
  code=$?
  sed -i 's/\x1b\[[0-9;]*m//g' "$log"
  # A filter that matches nothing is no failure.
  if grep -q 'No test cases matched\|No tests ran' "$log"; then code=0; fi
  count "$log" "$code" "$name"
  rm -f "$log"
}

scripts/setup.sh || fail "0 passed, 1 failed, 0 skipped"

if [ -n "$sanitize" ]; then
  build=build-$sanitize
  [ "$sanitize" = address ] && kind=address,undefined || kind=thread
  BUILD=$build scripts/build.sh -Db_sanitize=$kind -Db_lundef=false -Dprograms=false -Dbuildtype=debugoptimized \
    -Doptimization=1 -Dwerror="${WERROR:-false}" -- tests/core-tests || fail "0 passed, 1 failed, 0 skipped"
  # libtorch is not instrumented: its own threads are outside, what we call from it is not.
  export TSAN_OPTIONS="suppressions=$ROOT/tests/tsan.supp halt_on_error=0 exitcode=66"
  export ASAN_OPTIONS="detect_leaks=0" UBSAN_OPTIONS="halt_on_error=1 print_stacktrace=1"
  run "unit, ranks, tcp ($sanitize sanitizer)" 900 "$build/tests/core-tests" "${pattern:-~[mpi]~[.]}"
  printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" = 0 ] && exit 0 || exit 1
fi

build=${BUILD:-build}
read -ra options <<<"${MESON_OPTIONS:-}"
scripts/build.sh -Dwerror="${WERROR:-false}" "${options[@]}" || fail "0 passed, 1 failed, 0 skipped"
[ -n "${ACP_GOLDEN:-}" ] || say "skipped: no golden vectors (ACP_GOLDEN)"

if [ -n "$pattern" ]; then
  case "$pattern" in \[*) ;; *) pattern="*$pattern*" ;; esac
  run "core $pattern" 600 "$build/tests/core-tests" "$pattern"
  run "api $pattern" 600 "$build/tests/api-tests" "$pattern"
else
  run "unit, ranks and tcp" 600 "$build/tests/core-tests" "~[mpi]~[.]"
  for n in 1 2 3 4; do
    run "mpi, $n ranks" 300 "${MPIRUN[@]}" -np $n "$build/tests/core-tests" "[mpi]"
  done
  run "api" 900 "$build/tests/api-tests" "~[api-mpi]~[api-tcp]~[.]"
  for n in 2 3 4; do
    run "api over mpi, $n ranks" 600 "${MPIRUN[@]}" -np $n "$build/tests/api-tests" "[api-mpi]"
    run "api over tcp, $n ranks" 600 scripts/run_tcp.sh $n "$build/tests/api-tests" "[api-mpi]"
  done
  for script in tests/example/*.sh; do
    [ -f "$script" ] && run "$script" 900 env BUILD="$ROOT/$build" bash "$script"
  done
fi
say "tests took $((SECONDS - started)) s"
printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
