#!/usr/bin/env bash
# What happens over mpi when a rank fails, hangs, leaves or differs: starts build/tests/mpi-faults under mpirun for each
# case and compares exit codes and lines. BUILD names another build folder. Ends with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
program=$build/tests/mpi-faults
if [ ! -x "$program" ]; then
  echo "skipped: $program is not built (no MPI)"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi
# Open MPI refuses root unless told so; containers often have nobody else.
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
unset OMPI_MCA_mpi_yield_when_idle

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

# start RANKS TIMEOUT SCENARIO [mpirun options]: runs it, leaves its output in $log and its exit code in $code. The
# timeout holds once the ranks have met; `init=TIMEOUT start ...` sets the one for the start.
start() {
  local ranks=$1 limit=$2 scenario=$3
  shift 3
  name="$scenario, $ranks ranks"
  ACP_TIMEOUT=${init:-60} FAULTS_TIMEOUT=$limit timeout --kill-after=5 60 mpirun -np "$ranks" --bind-to none --oversubscribe "$@" "$program" \
    "$scenario" >"$log" 2>&1 </dev/null
  code=$?
  wrong=
}
exits() {
  [ "$code" = "$1" ] || wrong="$wrong  exit code $code, not $1"$'\n'
}
# says COUNT TEXT: as many lines as that contain the text.
says() {
  local found
  found=$(grep -cF -- "$2" "$log")
  [ "$found" = "$1" ] || wrong="$wrong  $found lines, not $1, with: $2"$'\n'
}
says_some() {
  grep -qF -- "$1" "$log" || wrong="$wrong  no line with: $1"$'\n'
}
verdict() {
  if [ -z "$wrong" ]; then
    passed=$((passed + 1))
    echo "ok      $name"
  else
    failed=$((failed + 1))
    printf 'FAILED  %s\n%s' "$name" "$wrong"
    sed 's/^/    | /' "$log"
  fi
}

start 3 60 all-well
exits 0; says 0 error; verdict

# One rank throws: its own class and status, and a line on every other rank.
for scenario in fails fails-native; do
  for ranks in 2 3 4; do
    start $ranks 60 $scenario
    exits 3
    says 1 "error: the disk of rank 1 is full"
    for rank in 0 2 3; do
      [ $rank -lt $ranks ] || continue
      says 1 "error: [mpi] rank $rank: stopped by rank 1 (the disk of rank 1 is full)"
    done
    says $((ranks - 1)) "(step 7, bucket 2: fc.weight)"
    verdict
  done
done

# One rank does not come: every other one prints a line, and those who waited for it name it. It may end before it
# prints one of its own.
others_say() { # ranks
  for rank in 0 2 3; do
    [ $rank -lt "$1" ] || continue
    says 1 "error: [mpi] rank $rank: "
  done
}
for scenario in late late-native; do
  for ranks in 2 3 4; do
    start $ranks 0.5 $scenario
    exits 4
    others_say $ranks
    says_some "rank 1 did not take part within 0.5 s (ACP_TIMEOUT)"
    says_some "(step 7, bucket 2: fc.weight)"
    verdict
  done
done
for scenario in stopped stopped-native; do
  start 3 0.5 $scenario
  exits 4
  others_say 3
  says_some "rank 1 did not take part within 0.5 s (ACP_TIMEOUT): "
  says_some "stopped"
  verdict
done

# One rank has left in good order: nobody waits for the deadline.
for scenario in ends-early ends-early-native; do
  for ranks in 2 3; do
    start $ranks 50 $scenario
    exits 4
    says_some "rank 1 has ended its part and left, but is still needed"
    verdict
  done
done

# Ranks that do different things.
start 2 20 length
exits 4; says_some "the ranks do different things: rank "; verdict
start 3 20 operation
exits 4; says_some "the ranks do different things: rank "; says 3 "error: [mpi] rank "; verdict

# A process that dies by a signal: the launcher ends the job.
start 3 20 killed
[ "$code" != 0 ] && [ "$code" != 124 ] || wrong="  exit code $code"$'\n'
verdict

# The start and the end.
init=1 start 2 1 never-starts
exits 4; says_some "MPI_Init_thread has not returned within 1 s (ACP_TIMEOUT)"; verdict
start 3 0.5 works-on
exits 0; says 0 error; verdict
start 2 0.5 stopped-at-the-end
exits 4; says_some "[mpi] rank 0: rank 1 has neither ended nor answered within 0.5 s"; verdict
start 2 20 twice
exits 2; says 2 "error: MPI has ended in this process and cannot be started a second time"; verdict
init=soon start 2 1 all-well
exits 2; says_some "ACP_TIMEOUT"; says_some "soon"; verdict

# Programs that start MPI themselves.
start 2 20 joins-serialized
exits 0; says 2 "MPI still works, 2 ranks"; verdict
start 2 20 joins-single
exits 2; says 2 "MPI still works, 2 ranks"; says 2 "start it by MPI_Init_thread with MPI_THREAD_MULTIPLE"; verdict

# The library yields unless the user says otherwise.
start 2 20 yields
exits 0; says 2 "yield 1"; verdict
start 2 20 yields -x OMPI_MCA_mpi_yield_when_idle=0
exits 0; says 2 "yield 0"; verdict

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
