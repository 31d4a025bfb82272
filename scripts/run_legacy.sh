#!/usr/bin/env bash
# One experiment of LEGACY: top-k whose ratio follows the sizes of the layers, or the step of the run.
#   dnn=resnet9 scripts/run_legacy.sh [options of acp-train...]
# dnn: resnet9, alexnet-cifar, resnet18-cifar, resnet18-cifar100, resnet50, ncf, transformer-xl; settings by the variables of
# envs.conf (nworkers, policy, epochs, bs, data, ...), which win over the published ones.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
case "${dnn:-resnet9}" in
  resnet9) preset=legacy-resnet9-cifar10 ;;
  alexnet*) preset=legacy-alexnet-cifar10 ;;
  resnet18 | resnet18-cifar) preset=legacy-resnet18-cifar10 ;;
  resnet18-cifar100) preset=legacy-resnet18-cifar100 ;;
  resnet50) preset=legacy-resnet50-imagenet ;;
  ncf) preset=legacy-ncf-ml20m ;;
  transformer-xl) preset=legacy-transformer-xl-wikitext103 ;;
  *) printf 'run_legacy.sh: dnn=%s: none of its experiments; scripts/run_legacy.sh says which there are at its top\n' "$dnn" >&2 && exit 2 ;;
esac
exec env -u dnn preset="$preset" "$here/perf.sh" "$@"
