#!/usr/bin/env bash
# Steps of ours and of PyTorch DDP on emulated hosts, one rank and one thread a host, taking turns: prints a table a model.
#   scripts/compare_peers.sh                                  the four models, 2 hosts, 1 Gbit/s
#   models="lstm bert" hosts=4 rate=100mbit scripts/compare_peers.sh
#   rate=auto scripts/compare_peers.sh                        links on which S-SGD takes 5 times its computing: ours alone
#   budget=280 scripts/compare_peers.sh                       at most 280 s of runs; the same command goes on from there
# Variables: models (resnet18 lstm resnet50 bert), hosts, rate, variants (alone torch-alone ddp ddp:fp16 ddp:bf16
# ddp:powersgd ddp:batched-powersgd acp:SPEC acp:SPEC@FUSION), repeats (runs of each variant; 7, of BERT 3), steps and
# warmup of a run, fusion (25, auto, ...), backend (tcp), json (results/peers.json, a line a run), budget, dry=1 (prints the
# commands). Needs root and benchmarks/peers/setup.sh. A figure is the median over the runs of the slowest rank's median step.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
case "${1:-}" in -h | --help) usage "$0" && exit ;; esac
build=${BUILD:-build}
case "$build" in /*) ;; *) build=$ROOT/$build ;; esac
exec "${PY:-python3}" "$ROOT/benchmarks/peers/compare.py" --build "$build" "$@"
