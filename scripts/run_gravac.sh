#!/usr/bin/env bash
# One experiment of GraVAC: top-k whose factor is searched by the gain of compression times throughput.
#   dnn=resnet101 scripts/run_gravac.sh [options of acp-train...]
# dnn: resnet101, vgg16, lstm; settings by the variables of envs.conf (nworkers, opt, policy, epochs, bs, data, ...).
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
case "${dnn:-resnet101}" in
  resnet101) preset=gravac-resnet101-cifar10 ;;
  vgg16*) preset=gravac-vgg16-cifar100 ;;
  lstm*) preset=gravac-lstm-ptb ;;
  *) printf 'run_gravac.sh: dnn=%s: resnet101, vgg16 or lstm\n' "$dnn" >&2 && exit 2 ;;
esac
exec env -u dnn preset="$preset" "$here/perf.sh" "$@"
