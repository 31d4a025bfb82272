#!/usr/bin/env bash
# One experiment of GradComp: a sparsifier and a quantiser together, LSTM on PTB, clipped before compression.
#   opt=topk:ratio=0.001+terngrad scripts/run_hybrids.sh [options of acp-train...]
# opt: any compressor (default: the preset's topk:ratio=0.001+efsignsgd); adacomp=1: AdaComp with signs as published.
# Settings by the variables of envs.conf (nworkers, epochs, bs, data, ...).
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
case "${dnn:-lstm}" in
  lstm*) ;;
  *) printf 'run_hybrids.sh: dnn=%s: its network is an LSTM (dnn=lstm, or nothing)\n' "$dnn" >&2 && exit 2 ;;
esac
if [ "${adacomp:-0}" != 0 ]; then preset=hybrids-adacomp-lstm-ptb; else preset=hybrids-lstm-ptb; fi
exec env -u dnn preset="$preset" "$here/perf.sh" "$@"
