#!/usr/bin/env bash
# The convergence example: trains the MNIST network as the ACP-SGD example was published (10 epochs, 4 ranks, rate 0.01 a
# rank, momentum 0.5) and prints one line with the test accuracy.
#   opt=acpsgd scripts/mnist.sh [options of acp-train...]       opt: acpsgd (default), powersgd, ssgd, any compressor
# Variables as in envs.conf, such as nworkers, epochs, hosts. The published run used InfiniBand: rdma=1.
set -euo pipefail
[ "${dnn:-mnist}" = mnist ] || { printf 'mnist.sh: dnn=%s: it trains mnist; perf.sh takes any model\n' "$dnn" >&2 && exit 2; }
opt=${opt:-acpsgd} nworkers=${nworkers:-4} preset=${preset:-acp-mnist-original} rank=${rank:-4}
export opt nworkers preset rank
exec "$(dirname "${BASH_SOURCE[0]}")/perf.sh" "$@"
