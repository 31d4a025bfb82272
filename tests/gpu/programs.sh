#!/usr/bin/env bash
# The programs on a GPU: acp-comm by NCCL and staged, acp-train on one GPU with one and two ranks, by tcp alone.
# Usage: tests/gpu/programs.sh   (BUILD: default build). The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
train=$build/benchmarks/acp-train comm=$build/benchmarks/acp-comm
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT ACP_BACKEND
export ACP_TIMEOUT=${ACP_TIMEOUT:-120}
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); }
no() { # NAME WHAT
  failed=$((failed + 1))
  echo "FAILED: $1: $2"
  sed 's/^/    /' "$work/out" "$work/err" 2>/dev/null | tail -n 12
}
run() { # COMMAND...: output to $work/out and $work/err, code to $code
  timeout -k 5 300 "$@" >"$work/out" 2>"$work/err"
  code=$?
}
holds() { # NAME EXPRESSION over `rows`, the objects of $work/json
  if [ "$code" != 0 ]; then
    no "$1" "exit code $code"
  elif python3 -c 'import json, sys; rows = [json.loads(line) for line in open(sys.argv[1])]; sys.exit(not eval("(" + sys.argv[2] + ")"))' \
    "$work/json" "$2" 2>>"$work/err"; then
    ok
  else
    no "$1" "does not hold: $2"
  fi
  rm -f "$work/json"
}

run "$comm" --backend local --device cuda --min 4 --max 4 --op all_reduce --iterations 1 --warmup 0 --quiet
if [ "$code" != 0 ]; then
  echo "skipped: $(head -n 1 "$work/err")"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi

# --- acp-comm --------------------------------------------------------------------------------------------------------
sizes=(--min 4 --max 4M --factor 32 --op all --iterations 3 --quiet --json "$work/json")
run "$comm" --backend nccl "${sizes[@]}"
if [ "$code" = 2 ] && grep -q 'without NCCL' "$work/err"; then
  echo "skipped: NCCL: this build is without"
  skipped=$((skipped + 1))
else
  holds 'acp-comm, nccl, one rank' 'len(rows) >= 20 and all(r["wrong"] == 0 and r["backend"] == "nccl" and r["device"] == "cuda" for r in rows)'
  # Two ranks on this machine's GPUs where there are as many; on one GPU a refusal that says what to do.
  run scripts/run_tcp.sh 2 "$comm" --backend nccl "${sizes[@]}"
  if [ "$code" = 0 ]; then
    holds 'acp-comm, nccl, two ranks' 'all(r["wrong"] == 0 and r["world_size"] == 2 for r in rows)'
  elif [ "$code" = 2 ] && grep -q 'one rank for each GPU' "$work/err"; then
    ok
  else
    no 'acp-comm, nccl, two ranks' "exit code $code"
  fi
fi
for dtype in float32 bfloat16 float16; do
  run scripts/run_tcp.sh 2 "$comm" --device cuda --dtype "$dtype" "${sizes[@]}"
  holds "acp-comm, staged, $dtype" 'len(rows) >= 20 and all(r["wrong"] == 0 and r["device"] == "cuda" and r["world_size"] == 2 for r in rows)'
done

# --- acp-train: all ranks end with the same parameters, or acp-train itself ends with an error ------------------------
data=()
[ -n "${ACP_DATA:-}" ] || data=(--data digits)
for compressor in none acpsgd:rank=4 topk:ratio=0.01; do
  run scripts/run_tcp.sh 2 "$train" --model mnist "${data[@]}" --device cuda --compressor "$compressor" --epochs 1 --seed 3 \
    --quiet --json "$work/json"
  holds "MNIST, two ranks on one GPU, $compressor" 'rows[0]["device"] == "cuda" and rows[0]["world_size"] == 2 and rows[0]["eval"]["value"] > 0.9'
done
run scripts/run_tcp.sh 2 "$train" --model bert-base:layers=2,hidden=128,seq=32 --data synthetic --batch-size 8 --device cuda \
  --compressor acpsgd:rank=4 --fusion-mb 1 --iterations 6 --warmup 2 --seed 3 --quiet --no-eval --json "$work/json" --trace "$work/trace"
holds 'a small BERT, two ranks on one GPU' 'rows[0]["device"] == "cuda" and rows[0]["payload_bytes_per_step"] < rows[0]["dense_bytes_per_step"]'
# A collective of a step that had begun before its backward pass ended, on each rank.
if python3 - "$work/trace" <<'PY' >"$work/out" 2>"$work/err"; then ok; else no 'overlap' 'no collective began during a backward pass'; fi
import collections, json, sys
events = json.load(open(sys.argv[1]))
events = events["traceEvents"] if isinstance(events, dict) else events
ends, early = {}, collections.Counter()
for e in events:
    if e["name"] == "backward":
        ends[e["pid"], e["args"]["step"]] = e["ts"] + e["dur"]
for e in events:
    if e["name"].startswith("collective") and e.get("ph") == "X" and e["ts"] < ends.get((e["pid"], e["args"]["step"]), 0):
        early[e["pid"]] += 1
print(early)
sys.exit(not all(early[rank] > 0 for rank in (0, 1)))
PY
run "$train" --model mnist "${data[@]}" --backend nccl --iterations 20 --seed 3 --quiet --no-eval --json "$work/json"
if ! { [ "$code" = 2 ] && grep -q "without NCCL" "$work/err"; }; then
  holds 'MNIST, nccl, one rank' 'rows[0]["backend"] == "nccl" and rows[0]["device"] == "cuda"'
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
