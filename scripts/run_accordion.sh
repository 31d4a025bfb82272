#!/usr/bin/env bash
# One experiment of Accordion: light compression in critical regimes of the training, strong elsewhere.
#   dnn=resnet18-cifar scripts/run_accordion.sh [options of acp-train...]
# dnn: resnet18-cifar, resnet18-cifar100, densenet121, lstm; topk=1: top-k in place of Power-SGD (resnet18-cifar). Settings by
# the variables of envs.conf (nworkers, opt, policy, epochs, bs, data, ...).
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
more=''
[ "${topk:-0}" = 0 ] || more=+
case "${dnn:-resnet18-cifar}$more" in
  resnet18 | resnet18-cifar) preset=accordion-resnet18-cifar10 ;;
  resnet18+ | resnet18-cifar+) preset=accordion-topk-resnet18-cifar10 ;;
  resnet18-cifar100) preset=accordion-resnet18-cifar100 ;;
  densenet121) preset=accordion-densenet121-cifar10 ;;
  lstm*) preset=accordion-lstm-ptb ;;
  *) printf 'run_accordion.sh: dnn=%s%s: none of its experiments; the script says at its top which there are\n' "${dnn:-}" "${more:+ topk=$topk}" >&2 && exit 2 ;;
esac
exec env -u dnn preset="$preset" "$here/perf.sh" "$@"
