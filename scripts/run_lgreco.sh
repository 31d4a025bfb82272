#!/usr/bin/env bash
# One experiment of L-GreCo: low rank whose ranks are chosen per layer under a budget of error.
#   dnn=resnet18-cifar scripts/run_lgreco.sh [options of acp-train...]
# dnn: resnet18-cifar, resnet18-cifar100, resnet50, transformer-xl, transformer-lm; accordion=1: with Accordion's reference
# (transformer-xl). Settings by the variables of envs.conf (nworkers, opt, policy, epochs, bs, data, ...).
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
more=''
[ "${accordion:-0}" = 0 ] || more=+
case "${dnn:-resnet18-cifar}$more" in
  resnet18 | resnet18-cifar) preset=lgreco-resnet18-cifar10 ;;
  resnet18-cifar100) preset=lgreco-resnet18-cifar100 ;;
  resnet50) preset=lgreco-resnet50-imagenet ;;
  transformer-xl) preset=lgreco-transformer-xl-wikitext103 ;;
  transformer-xl+) preset=lgreco-accordion-transformer-xl-wikitext103 ;;
  transformer-lm) preset=lgreco-transformer-lm-wikitext103 ;;
  *) printf 'run_lgreco.sh: dnn=%s%s: none of its experiments; the script says at its top which there are\n' "${dnn:-}" "${more:+ accordion=$accordion}" >&2 && exit 2 ;;
esac
exec env -u dnn preset="$preset" "$here/perf.sh" "$@"
