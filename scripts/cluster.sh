#!/usr/bin/env bash
# An emulated cluster on this machine: hosts as network namespaces, joined by links of a given rate. Needs root.
#   scripts/cluster.sh up 4 1gbit                             four hosts acp0 to acp3, 1 Gbit/s each way
#   hosts=$(scripts/cluster.sh hosts) scripts/perf.sh         an experiment on them
#   scripts/cluster.sh rate 100mbit                           changes the links, also while something runs
#   scripts/cluster.sh run -- COMMAND...                      mpirun with one rank a host (--direct: without MPI)
#   scripts/cluster.sh down                                   removes all that `up` made
# --prefix NAME before any of these: one of several clusters. The rest is netns-cluster's: scripts/netns-cluster --help; docs/experiments.md says what is emulated and what is not.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
tool=("$ROOT/scripts/netns-cluster")
if [ "${1:-}" = --prefix ] && [ $# -ge 2 ]; then
  tool+=("$1" "$2")
  shift 2
fi
case "${1:-}" in
  '' | -h | --help) usage "$0" && exit ;;
  hosts)
    status=$("${tool[@]}" status --json) || fail "cluster.sh: no cluster is up; scripts/cluster.sh up 4 1gbit makes one"
    exec python3 -c 'import json, sys; print(*(host["name"] for host in json.loads(sys.argv[1])["hosts"]))' "$status"
    ;;
esac
exec "${tool[@]}" "$@"
