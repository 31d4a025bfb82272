#!/usr/bin/env bash
# What the size of fused messages is worth, and what --fusion-mb auto makes of it: all sizes take turns on emulated hosts.
#   model=lstm compressor=acpsgd:rank=4 rate=100mbit scripts/sweep_fusion.sh
# Variables: model (as in compare_peers.sh), compressor, sizes (MB; 0 = one tensor a message), and hosts, rate, repeats,
# steps, budget, json of compare_peers.sh. The last line has auto's step by the best size's.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
case "${1:-}" in -h | --help) usage "$0" && exit ;; esac
model=${model:-resnet18} compressor=${compressor:-none} variants=''
for size in ${sizes:-0 1 4 8 16 25 50 1000000} auto; do variants+=" acp:$compressor@$size"; done
export json=${json:-$ROOT/results/sweep.json}
models=$model variants=$variants "$ROOT/scripts/compare_peers.sh" --best "acp:$compressor@auto" "$@"
