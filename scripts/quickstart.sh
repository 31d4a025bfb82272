#!/usr/bin/env bash
# From a fresh clone to a table: sets up, builds, trains the MNIST network on 2 processes with three methods.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"
scripts/setup.sh
say "quickstart: building (some minutes the first time)"
scripts/build.sh -- benchmarks/acp-train
say "quickstart: training the MNIST network, 2 processes under mpirun, 3 epochs each"
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for compressor in none powersgd:rank=4 acpsgd:rank=4; do
  "${MPIRUN[@]}" -np 2 build/benchmarks/acp-train --model mnist --epochs 3 --batch-size 64 --lr 0.05 --momentum 0.9 \
    --lr-schedule linear --compressor "$compressor" --json "$results" --quiet </dev/null
done
python3 - "$results" <<'P'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print("data: " + str(rows[0]["data"]))
print(f"{'method':<12}{'test accuracy':>15}{'samples/s':>12}{'payload bytes/step/rank':>26}{'compression':>13}")
names = {"none": "S-SGD", "powersgd": "Power-SGD", "acpsgd": "ACP-SGD"}
for row in rows:
    result = row.get("test") or row["eval"]
    value = result["value"] * (100 if result["value"] <= 1 else 1)
    print(f"{names[row['compressor'].split(':')[0]]:<12}{value:>13.2f} %{row['samples_per_second']:>12.0f}"
          f"{row['payload_bytes_per_step']:>26.0f}{row['compression_ratio']:>12.1f}x")
P
