#!/usr/bin/env bash
# Sets up, builds and runs every test; the last line is `N passed, N failed, N skipped`, summed over all runners.
#   scripts/test.sh                        everything
#   scripts/test.sh PATTERN                test cases with PATTERN in their name, or with a [tag]; scripts by their path
#   scripts/test.sh --sanitize address     comm, compressors, fusion and their tests, with address + undefined
#   scripts/test.sh --sanitize thread      the same with the thread sanitizer
#   scripts/test.sh --device cuda          everything, and the tests that need a GPU; without Open MPI if there is none
# BUILD: another build folder. WERROR=true: warnings are errors. MESON_OPTIONS: more options for Meson. SETUP=no: takes
# what is installed and installs nothing.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT" || exit 1

sanitize=''
device=cpu
pattern=''
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage "$0" && exit ;;
    --sanitize) [ $# -ge 2 ] || fail "test.sh: --sanitize takes address or thread" && sanitize=$2 && shift 2 ;;
    --device) [ $# -ge 2 ] || fail "test.sh: --device takes cpu or cuda" && device=$2 && shift 2 ;;
    -*) fail "test.sh: unknown option $1; known: --sanitize address|thread, --device cpu|cuda" ;;
    *) pattern=$1 && shift ;;
  esac
done
case "$sanitize" in "" | address | thread) ;; *) fail "test.sh: --sanitize takes address or thread, not $sanitize" ;; esac
case "$device" in cpu | cuda) ;; *) fail "test.sh: --device takes cpu or cuda, not $device" ;; esac
[ -z "$sanitize" ] || [ "$device" = cpu ] || fail "test.sh: --sanitize and --device cuda exclude each other"
# Adds to a tag filter, which it narrows.
case "$pattern" in "" | \[*) filter=$pattern ;; *) filter="*$pattern*" ;; esac
# A rank's settings of a shell that was itself started by a launcher.
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT ACP_BACKEND
# The same choice of algorithms in every run and on every backend, so that results can be compared bit by bit.
export ACP_LINK=${ACP_LINK:-latency_us=20,gbps=80}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# A log's closing figures as `passed failed skipped`. Catch2: «All tests passed (A assertions in C test cases)» or
# «test cases: C | P passed | F failed»; scripts: «P passed, F failed[, S skipped]». A test case that prints a line
# `skipped: reason` counts as that.
figures() {
  sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
    /^ *skipped: / { said++ }
    /^All tests passed \(.* in [0-9]+ test cases?\)/ { sub(/ test cases?\).*/, ""); p = $NF; f = s = 0; catch = 1 }
    /^test cases: .*\|/ || /^[0-9]+ passed, [0-9]+ failed/ {
      p = f = s = 0; catch = /^test/
      for (i = 2; i <= NF; i++) {
        if ($i ~ /^passed/) p = $(i - 1)
        if ($i ~ /^failed/ && $(i + 1) != "as") f = $(i - 1)
        if ($i ~ /^skipped/) s = $(i - 1)
      }
    }
    END { if (catch) { if (said > p) said = p; p -= said; s += said } print p + 0, f + 0, s + 0 }'
}

finish() { # name, exit code, started, logs...: counts the log with the most failures (ranks run the same tests)
  local name=$1 code=$2 began=$3 log p=0 f=0 s=0 worst=-1 rank=()
  shift 3
  for log; do
    [ -f "$log" ] || continue
    read -ra rank <<<"$(figures "$log")"
    if [ "${rank[1]}" -gt "$worst" ]; then p=${rank[0]} f=${rank[1]} s=${rank[2]} worst=$f; fi
  done
  # Ended without a closing line, or before it.
  if { [ "$code" != 0 ] && [ "$f" = 0 ]; } || [ $((p + f + s)) = 0 ]; then f=1; fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  printf '%-32s %4s passed %3s failed %3s skipped %5s s\n' "$name" "$p" "$f" "$s" "$((SECONDS - began))"
  for log; do
    [ -f "$log" ] || continue
    if [ "$code" != 0 ]; then
      printf -- '--- %s\n' "$name, ${log##*/}"
      grep -n -B 10 -A 12 'FAILED:$' "$log" | head -n 100 # Catch2's, which may be far above
      tail -n 40 "$log"
    else
      grep '^ *skipped: ' "$log" | sort -u
      break
    fi
  done
  [ "$code" != 124 ] || say "$name: ended after its time limit"
}

run() { # name, seconds, command...
  local name=$1 limit=$2 began=$SECONDS code
  shift 2
  timeout --kill-after=10 "$limit" "$@" >"$work/output" 2>&1 </dev/null
  code=$?
  finish "$name" "$code" "$began" "$work/output"
  rm -f "$work/output"
}

# Test cases by tags: on this process, or the same on n ranks, whose output is kept apart.
# A program that cannot even list them (it lacks a library, dies before main), or that has none of what everything should
# have, has failed. Catch2's exit code for --list-tests is their number.
matches() { # name, program, tags
  local listing
  listing=$("$2" --list-tests "$3" 2>&1 </dev/null)
  ! grep -q '^[1-9][0-9]* matching test case' <<<"$listing" || return 0
  if [ -z "$pattern" ] || ! grep -qE '^(0|No) (matching )?test case' <<<"$listing"; then
    failed=$((failed + 1))
    printf '%s: no tests %s in %s\n' "$1" "$3" "$2"
    tail -n 20 <<<"$listing"
  fi
  return 1
}
cases() { # name, seconds, program, tags
  if matches "$1" "$3" "$4$filter"; then run "$1" "$2" "$3" "$4$filter"; fi
}
cases_on_ranks() { # name, seconds, program, tags, launcher...
  local name=$1 limit=$2 program=$3 tags=$4 began=$SECONDS code
  shift 4
  matches "$name" "$program" "$tags$filter" || return 0
  # shellcheck disable=SC2016
  timeout --kill-after=10 "$limit" "$@" bash -c 'exec "${@:2}" >"$1/rank-${OMPI_COMM_WORLD_RANK:-$RANK}" 2>&1' \
    _ "$work" "$program" "$tags$filter" >"$work/launcher" 2>&1 </dev/null
  code=$?
  finish "$name" "$code" "$began" "$work"/rank-* "$work/launcher"
  rm -f "$work"/rank-* "$work/launcher"
}

end() {
  if [ $((passed + failed + skipped)) = 0 ]; then
    say "no test matches $pattern"
    failed=1
  fi
  printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" = 0 ]
  exit
}
no_build() { passed=0 failed=1 skipped=0 && end; }

if [ "${SETUP:-}" != no ]; then
  if [ "$device" = cuda ]; then scripts/setup.sh --cuda || no_build; else scripts/setup.sh || no_build; fi
fi

if [ -n "$sanitize" ]; then
  if [ "$sanitize" = address ]; then build=build-asan kind=address,undefined; else build=build-tsan kind=thread; fi
  say "building into $build"
  # What staging and the roll call do on the host is in every build; the rest of the parts for GPUs needs one to run.
  BUILD=$build scripts/build.sh -Db_sanitize=$kind -Dcuda=disabled -Db_lundef=false -Dprograms=false -Ddebug=false -Dcpp_args=-g1 \
    -Doptimization=1 -Dwerror="${WERROR:-false}" -- || no_build
  # libtorch is not instrumented: what its own threads do is outside, what we call from it is not.
  export TSAN_OPTIONS="suppressions=$ROOT/tests/tsan.supp exitcode=66" # TSan goes on after a report, and fails at the end
  export LSAN_OPTIONS="suppressions=$ROOT/tests/lsan.supp print_suppressions=0"
  export UBSAN_OPTIONS="halt_on_error=1 print_stacktrace=1"
  cases "unit ($sanitize)" 600 "$build/tests/core-tests" "[unit]~[.]"
  cases "ranks ($sanitize)" 900 "$build/tests/core-tests" "[ranks]~[.]"
  cases "tcp ($sanitize)" 900 "$build/tests/core-tests" "[tcp]~[.]"
  # Not under the thread sanitizer: Open MPI is not instrumented, and every message would be a race.
  if [ "$sanitize" = address ]; then
    # Open MPI leaves memory behind, in plug-ins that are gone when the process ends: no frame tells whose it was.
    ASAN_OPTIONS=detect_leaks=0 cases_on_ranks "mpi, 2 ranks ($sanitize)" 600 "$build/tests/core-tests" "[mpi]" "${MPIRUN[@]}" -np 2
  fi
  if [ "$sanitize" = thread ] && [ -z "$pattern" ]; then
    run "planted races are reported" 300 env BUILD="$build" tests/sanitizers/planted.sh
  fi
  end
fi

build=${BUILD:-build}
read -ra options <<<"${WERROR:+-Dwerror=$WERROR} ${MESON_OPTIONS:-}"
say "building into $build"
scripts/build.sh "${options[@]}" || no_build
core=$build/tests/core-tests api=$build/tests/api-tests

cases "unit, ranks" 600 "$core" "~[mpi]~[tcp]~[gpu]~[.]"
cases "tcp" 600 "$core" "[tcp]~[.]"
cases "api" 900 "$api" "~[api-mpi]~[.]"
mpi=1
if [ "$device" = cuda ] && ! command -v "${MPIRUN[0]}" >/dev/null; then
  mpi=''
  say "skipped: tests over MPI: there is no ${MPIRUN[0]}"
fi
[ -z "$mpi" ] || for n in 1 2 3 4; do
  cases_on_ranks "mpi, $n ranks" 300 "$core" "[mpi]" "${MPIRUN[@]}" -np $n
done
for n in 2 3 4; do
  [ -z "$mpi" ] || cases_on_ranks "api over mpi, $n ranks" 600 "$api" "[api-mpi]" "${MPIRUN[@]}" -np $n
  cases_on_ranks "api over tcp, $n ranks" 600 "$api" "[api-mpi]" scripts/run_tcp.sh $n
done
if [ "$device" = cuda ]; then cases "gpu" 900 "$core" "[gpu]~[.]"; fi
for script in tests/*/*.sh; do
  case "$script" in tests/sanitizers/*) continue ;; esac
  case "$script" in tests/gpu/*) [ "$device" = cuda ] || continue ;; esac
  # What these start is mpirun.
  case "$script" in tests/mpi/* | tests/faults/train.sh | tests/comm-program/* | tests/scripts/*) [ -n "$mpi" ] || continue ;; esac
  case "$script" in *"$pattern"*) run "$script" 900 env BUILD="$(realpath "$build")" bash "$script" ;; esac
done
end
