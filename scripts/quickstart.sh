#!/usr/bin/env bash
# From a fresh clone to a table: sets up, builds, and trains the MNIST network on 2 processes with three methods.
# The data are those of ACP_DATA, else ../shared/data, else Debian's dataset-fashion-mnist, else drawn digits.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"
case "${1:-}" in -h | --help) usage "$0" && exit ;; esac
scripts/setup.sh
say "quickstart: building (some minutes the first time)"
scripts/build.sh -- benchmarks/acp-train
say "quickstart: training the MNIST network on 2 processes under mpirun, 3 epochs with each method"
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for compressor in none powersgd:rank=4 acpsgd:rank=4; do
  "${MPIRUN[@]}" -np 2 build/benchmarks/acp-train --model mnist --epochs 3 --batch-size 64 --lr 0.05 --momentum 0.9 \
    --lr-schedule linear --compressor "$compressor" --json "$results" --quiet </dev/null
done
python3 - "$results" <<'P'
import json
import sys

rows = [json.loads(line) for line in open(sys.argv[1])]
print(f"data: {rows[0]['data']}")
print(f"{'method':<12}{'test accuracy':>15}{'samples/s':>12}{'payload bytes/step/rank':>26}{'compression':>14}")
for name, row in zip(("S-SGD", "Power-SGD", "ACP-SGD"), rows, strict=True):
    accuracy = (row.get("test") or row["eval"])["value"]
    print(f"{name:<12}{accuracy:>13.2f} %{row['samples_per_second']:>12,.0f}"
          f"{row['payload_bytes_per_step']:>26,.0f}{row['compression_ratio']:>13.1f}x")
P
