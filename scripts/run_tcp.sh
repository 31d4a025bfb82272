#!/usr/bin/env bash
# Starts N processes of a command over the tcp backend on this machine, without MPI; ends with the worst exit code.
#   scripts/run_tcp.sh N command...       MASTER_PORT: a free port unless set
# Output of the ranks above 0 goes nowhere, what they say on standard error comes out.
set -uo pipefail
case "${1:-}" in
  -h | --help) sed -n '2,4s/^# //p' "$0" && exit ;;
  '' | *[!0-9]* | 0) n=0 ;;
  *) n=$1 && shift ;;
esac
if [ "$n" = 0 ] || [ $# = 0 ]; then
  echo "run_tcp.sh: usage: scripts/run_tcp.sh N command..., with at least one process" >&2
  exit 2
fi
if [ -z "${MASTER_PORT:-}" ]; then
  MASTER_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fi
export MASTER_PORT MASTER_ADDR=${MASTER_ADDR:-127.0.0.1} WORLD_SIZE=$n LOCAL_WORLD_SIZE=$n
pids=()
trap 'kill "${pids[@]}" 2>/dev/null' INT TERM
for ((rank = n - 1; rank > 0; --rank)); do
  RANK=$rank LOCAL_RANK=$rank "$@" >/dev/null &
  pids+=($!)
done
RANK=0 LOCAL_RANK=0 "$@" &
pids+=($!)
worst=0
for pid in "${pids[@]}"; do
  wait "$pid"
  code=$?
  [ $code -gt $worst ] && worst=$code
done
exit $worst
