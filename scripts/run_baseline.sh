#!/usr/bin/env bash
# What the experiments of run_*.sh are compared with: the same model, data and recipe with uncompressed gradients.
#   of=gravac dnn=lstm scripts/run_baseline.sh [options of acp-train...]
# of: legacy, lgreco (default), gravac, accordion, hybrids; dnn as that script takes it. Settings by the variables of envs.conf;
# opt=topk:ratio=0.01 makes a static baseline of it.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
case "${of:-lgreco}" in
  legacy | lgreco | gravac | accordion | hybrids) ;;
  *) printf 'run_baseline.sh: of=%s: legacy, lgreco, gravac, accordion or hybrids\n' "$of" >&2 && exit 2 ;;
esac
exec env opt="${opt:-ssgd}" policy=uniform "$here/run_${of:-lgreco}.sh" "$@"
