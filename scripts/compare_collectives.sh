#!/usr/bin/env bash
# All-reduces of ours, Gloo's and Open MPI's on emulated hosts, taking turns, beside what iperf3 shows on the links.
#   hosts=4 rate=100mbit sizes="1K 1M 10M" scripts/compare_collectives.sh
# Variables: hosts (4), ranks a host (1), rate (1gbit), sizes ("1K 1M 10M"), rounds (3), ways (tcp:auto tcp:ring gloo mpi:auto
# openmpi:own openmpi:4; also tcp:doubling, mpi:native, ...), timeout of a run (200 s), dry=1 (prints the commands).
# Needs root, iperf3 and, for gloo, benchmarks/peers/setup.sh. A time is the slowest rank's median, the median over the rounds.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
case "${1:-}" in -h | --help) usage "$0" && exit ;; esac
build=${BUILD:-build}
case "$build" in /*) ;; *) build=$ROOT/$build ;; esac
exec "${PY:-python3}" "$ROOT/benchmarks/peers/collectives.py" --build "$build" "$@"
