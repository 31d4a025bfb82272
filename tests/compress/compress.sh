#!/usr/bin/env bash
# acp-compress from outside: exit codes, messages, JSON rows, payload sizes that have to be exact. No times are compared.
# Usage: tests/compress/compress.sh [BUILD]   (default: $BUILD, else build). The last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-${BUILD:-build}}
name=acp-compress program=$build/benchmarks/acp-compress
. tests/support/program.bash

describes_itself --versus-torch

run --compressors topkk && refused 'unknown method' 'topk'
run --compressors qsgd:bit=4 && refused 'unknown key' 'bits'
run --compressors signsgd --memory residual && refused 'memory that the method lacks' 'residual'
run --sizes 1Q && refused 'unknown size' '1M/25M/100M'
run --levels 0.01/0.1 && refused 'levels the wrong way round' '--levels 0.01/0.1: two kept fractions'
run --sizes 99999999999G && refused 'size beyond all memory' '16G'
run --iterations 0 && refused 'no iterations' 'iterations'
run --versus-troch && refused 'misspelt option' 'did you mean --versus-torch'
run --sizes 1K --compressors none --json "$work/absent/rows" && refused 'file that cannot be written' 'absent'

# Where there is no GPU: one line that says what is missing.
if ! command -v nvidia-smi >/dev/null; then
  run --device cuda --sizes 1K && refused 'no GPU' 'device "cuda"'
fi
run --device gpu && refused 'unknown device' 'cuda'

few=(--sizes 1K/40K --iterations 2 --warmup 1)
run "${few[@]}" --quiet --versus-torch --json "$work/rows"
if [ "$code" = 0 ] && [ ! -s "$work/out" ] && [ ! -s "$work/err" ]; then ok; else no 'all methods, quiet' "exit code $code, or output"; fi
holds 'every method at both sizes' 'all({r["bytes"] for r in rows if r["compressor"] == c and r["part"] == "exchange"} == {960, 40000}
  for c in "none fp16 bf16 powersgd acpsgd topk globaltopk randomk randomblock threshold dgc redsync sidco adacomp variance signsgd efsignsgd signum onebit terngrad qsgd natural cgx atomo topk+efsignsgd".split())'
holds 'figures are numbers' 'all(isinstance(r[k], (int, float)) and math.isfinite(r[k]) and r[k] >= 0 for r in rows if r["part"] != "kernel"
  for k in ("bits_per_element", "relative_error", "encode_ms", "decode_ms", "encode_gbps", "decode_gbps", "memcpy_gbps", "encode_of_memcpy", "decode_of_memcpy", "both_of_memcpy"))'
holds 'nothing is lost without compression' '[r["relative_error"] for r in rows if r["compressor"] == "none"] == [0, 0]'
holds 'codes of the exact size' '{r["compressor"]: r["bits_per_element"] for r in rows if r["part"] == "quantiser" and r["bytes"] == 40000}.items() >=
  {"signsgd": 1, "efsignsgd": 1 + 32 / 10000, "onebit": 1 + 64 / 10000, "terngrad": 2 + 32 / 10000, "natural": 8, "qsgd": 8 + 79 * 32 / 10000, "cgx:bits=8": 8 + 20 * 64 / 10000}.items()'
holds 'errors in their order' '(lambda e: e["fp16"] < e["natural"] < e["efsignsgd"] < 1 and e["qsgd"] < e["qsgd:bits=4"])({r["compressor"]: r["relative_error"] for r in rows if r["part"] != "kernel" and r["bytes"] == 40000})'
holds 'libtorch beside it' 'all(r["torch_encode_ms"] > 0 and r["speedup"] > 0 for r in rows if r["compressor"] in ("topk", "efsignsgd", "qsgd", "acpsgd"))'
holds 'parts of low rank agree with libtorch' 'sum(r["part"] == "kernel" for r in rows) == 11 and all(r["error"] < 1e-5 for r in rows if r["part"] == "kernel")'
holds 'bases are orthonormal to 1e-6' 'all(r["error"] < 1e-6 for r in rows if r["compressor"].startswith("bases"))'

rm "$work/rows"
run "${few[@]}" --quiet --compressors 'topk topk+efsignsgd qsgd' --levels 0.1/0.01 --json "$work/rows" && well 'levels'
holds 'levels of what has a ratio' '[r["compressor"] for r in rows if r["part"] == "levels"] == ["topk", "topk+efsignsgd"] * 2'
holds 'figures of levels' 'all(math.isclose(r["second_of_twice"], (r["both_ms"] - r["first_ms"]) / r["second_ms"]) for r in rows if r["part"] == "levels")'

for seed in 1 1 2; do
  : >"$work/rows"
  run --sizes 40K --iterations 1 --warmup 0 --compressors 'qsgd terngrad' --seed $seed --json - --quiet
  cp "$work/out" "$work/rows"
  python3 -c 'import json, sys; print([json.loads(l)["relative_error"] for l in open(sys.argv[1])])' "$work/rows" >>"$work/errors"
done
if [ "$(sed -n 1p "$work/errors")" = "$(sed -n 2p "$work/errors")" ]; then ok; else no 'same seed' 'other errors'; fi
if [ "$(sed -n 1p "$work/errors")" != "$(sed -n 3p "$work/errors")" ]; then ok; else no 'other seed' 'same errors'; fi

if command -v mpirun >/dev/null; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  timeout -k 5 120 mpirun -np 2 --bind-to none --oversubscribe "$program" --sizes 4K --iterations 1 --compressors none --json - \
    >"$work/out" 2>"$work/err"
  code=$?
  if [ "$code" = 0 ] && [ "$(grep -c '"compressor"' "$work/out")" = 1 ]; then ok; else no 'under mpirun' "exit code $code, or not one row"; fi
fi
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
