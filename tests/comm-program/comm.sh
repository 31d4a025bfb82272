#!/usr/bin/env bash
# acp-comm from outside: exit codes, messages, JSON rows, results of every operation on every CPU backend. No times are
# compared.
# Usage: tests/comm-program/comm.sh [BUILD]   (default: $BUILD, else build). The last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-${BUILD:-build}}
name=acp-comm program=$build/benchmarks/acp-comm
. tests/support/program.bash
export OMP_NUM_THREADS=1 ACP_TIMEOUT=60
tcp() { # N ARGUMENTS...
  timeout -k 5 120 scripts/run_tcp.sh "$1" "$program" "${@:2}" >"$work/out" 2>"$work/err"
  code=$?
}
mpi() { # N ARGUMENTS...
  timeout -k 5 120 mpirun -np "$1" --bind-to none --oversubscribe "$program" "${@:2}" >"$work/out" 2>"$work/err"
  code=$?
}
with_mpi=''
if command -v mpirun >/dev/null && ldd "$program" "$build"/libacp.so* 2>/dev/null | grep -q libmpi; then with_mpi=1; fi
[ "$(id -u)" != 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

describes_itself --tensors

run --op all_reduc && refused 'unknown operation' 'did you mean all_reduce'
run --min 1Q && refused 'unknown unit' '--min 1Q'
run --min 2K --max 1K && refused 'sizes the wrong way round' '--max 1K is less than --min 2K'
run --max 9999999999999G && refused 'size beyond all memory' '1024G'
run --factor 1 && refused 'sizes that do not grow' '--factor 1'
run --iterations 0 && refused 'no iterations' '--iterations 0'
run --algorithm rign && refused 'unknown algorithm' 'did you mean "ring"'
run --backend ucp && refused 'unknown backend' 'did you mean tcp'
run --dtype float23 && refused 'unknown type' 'did you mean float32'
run --dtype int32 --reduce average && refused 'average of integers' 'floating type'
run --op reduce_scatter/all_to_all --placement in && refused 'in place where there is no such form' 'reduce_scatter'
run --backend local --op broadcast --root 1 && refused 'root that is no rank' '--root 1'
run --tensors resnet5O && refused 'unknown model' 'resnet5O'
run --tensors mnist --compressors topk && refused 'method that does not all-reduce' 'topk does not all-reduce'
run --tensors mnist --min 1K && refused 'option without meaning beside --tensors' '--min'
run --local --op broadcast && refused 'option without meaning beside --local' '--op'
run --fusion-mb 1 && refused 'option of another measurement' '--tensors'
run --itrations 3 && refused 'misspelt option' 'did you mean --iterations'
run --backend local --json "$work/absent/rows" && refused 'file that cannot be written' 'absent'
tcp 2 --op nothing
if [ "$code" = 2 ] && [ "$(wc -l <"$work/err")" = 1 ]; then ok; else no 'two ranks, one line' "exit code $code"; fi
# shellcheck disable=SC2016
ACP_TIMEOUT=3 timeout -k 5 120 scripts/run_tcp.sh 2 bash -c '[ "$RANK" = 0 ] || export ACP_LINK=fast; exec "$@"' _ "$program" --min 1K --max 1K >"$work/out" 2>"$work/err"
code=$?
if [ "$code" = 4 ] && grep -q 'rank 1: ACP_LINK="fast"' "$work/err"; then ok; else no 'a variable that is wrong on rank 1 alone' "exit code $code"; fi

small=(--iterations 3 --warmup 1 --quiet --json "$work/rows")
run --backend local --min 1K --max 64K "${small[@]}"
if [ "$code" = 0 ] && [ ! -s "$work/out" ] && [ ! -s "$work/err" ]; then ok; else no 'one rank, quiet' "exit code $code, or output"; fi
holds 'sizes grow by the factor' '[r["bytes"] for r in rows] == [1024, 4096, 16384, 65536]'
holds 'a bus of one rank carries nothing' 'all(r["busbw_gbps"] == 0 and r["algbw_gbps"] > 0 and r["wrong"] == 0 for r in rows)'
holds 'the keys of the contract' 'all(k in r for r in rows for k in "op algorithm backend world_size bytes time_us algbw_gbps busbw_gbps wrong p50_us p99_us".split())'
holds 'figures agree' 'all(math.isclose(r["algbw_gbps"], r["bytes"] * 8e-3 / r["time_us"]) and r["min_us"] <= r["p50_us"] <= r["p99_us"] <= r["max_us"] for r in rows)'

rm "$work/rows"
tcp 3 --op all --min 100 --max 1M --factor 100 "${small[@]}" && well 'all operations, 3 ranks over tcp'
holds 'every operation at every size' 'len(rows) == 15 and {r["op"] for r in rows} == {"all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all"}'
holds 'nothing is wrong' 'all(r["wrong"] == 0 and r.get("out_of_place", r)["wrong"] == 0 and r["world_size"] == 3 and r["backend"] == "tcp" for r in rows)'
holds 'in place where there is such a form' 'all(r["placement"] == ("out" if r["op"] in ("reduce_scatter", "all_to_all") else "in") for r in rows)'
holds 'bus bandwidth as nccl-tests defines it' 'all(math.isclose(r["busbw_gbps"], r["algbw_gbps"] * {"all_reduce": 4 / 3, "broadcast": 1}.get(r["op"], 2 / 3)) for r in rows)'
holds 'pieces of equal size' 'all(r["bytes"] % 12 == 0 for r in rows if r["op"] not in ("all_reduce", "broadcast"))'

for type in float64 float16 bfloat16 int32 int64 uint8; do
  tcp 2 --op all_reduce/reduce_scatter --dtype $type --min 5000 --max 5000 "${small[@]}" && well "$type"
done
for reduce in average min max; do
  tcp 2 --op all_reduce/reduce_scatter --reduce $reduce --min 50000 --max 50000 --algorithm ring "${small[@]}" && well "$reduce"
done
tcp 2 --op broadcast --root 1 --min 4K --max 4K "${small[@]}" && well 'broadcast of rank 1'
holds 'other types and reductions' 'all(r["wrong"] == 0 for r in rows)'

# Ranks that share hosts: two on each of two, and three on one.
rm "$work/rows"
on_hosts() { # RANKS-OF-A-HOST ARGUMENTS...
  # shellcheck disable=SC2016
  timeout -k 5 120 scripts/run_tcp.sh 4 bash -c 'ACP_HOST_ID=host$((RANK / $0)) exec "$@"' "$1" "$program" "${@:2}" \
    >"$work/out" 2>"$work/err"
  code=$?
}
for share in 2 3; do
  for type in float32 bfloat16; do
    for algorithm in hierarchical halving doubling auto; do
      on_hosts $share --min 1K --max 4M --factor 4096 --dtype $type --algorithm $algorithm --placement in "${small[@]}" &&
        well "$algorithm, $type, $share ranks on the first host"
    done
  done
done
holds 'right sums whatever shares a host' 'len(rows) == 32 and all(r["wrong"] == 0 for r in rows)'
given=${ACP_LINK:-}
unset ACP_LINK
on_hosts 2 --min 1K --max 1K "${small[@]}" && well 'costs of both levels, measured'
[ -z "$given" ] || export ACP_LINK=$given
holds 'costs of both levels' 'rows[-1]["link"]["local_gbps"] > 0 and rows[-1]["link"]["cross_gbps"] > 0'

if [ -n "$with_mpi" ]; then
  rm "$work/rows"
  for algorithm in ring native auto; do
    mpi 2 --op all --min 1K --max 100K --factor 100 --algorithm $algorithm "${small[@]}" && well "mpi, $algorithm"
  done
  mpi 3 --op all_reduce --min 1M --max 1M --algorithm hierarchical "${small[@]}" && well 'mpi, hierarchical'
  holds 'right results over mpi' 'len(rows) == 31 and all(r["wrong"] == 0 and r["backend"] == "mpi" for r in rows)'
else
  echo 'skipped: mpi: built without, or no mpirun'
fi

rm "$work/rows"
tcp 2 --tensors mnist --iterations 2 --warmup 1 --json "$work/rows" && well "a model's gradients"
if grep -q 'acpsgd' "$work/out" && grep -q 'messages' "$work/out"; then ok; else no 'table of messages' 'lacks its rows'; fi
holds 'three methods, with and without fusion' '[(r["compressor"].split(":")[0], r["fusion_mb"]) for r in rows] == [(c, f) for c in ("none", "powersgd", "acpsgd") for f in (25, 0)]'
holds 'fusion takes fewer messages' 'all(a["messages"] < b["messages"] and a["bytes"] <= b["bytes"] for a, b in zip(rows[::2], rows[1::2]))'
holds 'ACP-SGD sends about half of Power-SGD, that less than S-SGD' '(lambda n, p, a: a < 0.7 * p and p < n / 2)(*(r["bytes"] for r in rows[::2]))'
holds 'sums of the messages are right' 'all(r["wrong"] == 0 and r["tensors"] == "mnist" and r["op"] == "all_reduce" for r in rows)'

rm "$work/rows"
run --local --min 64K --max 64K "${small[@]}" && well 'loops'
holds 'every loop beside memcpy' 'len(rows) == 9 and rows[0]["loop"] == "memcpy" and rows[0]["of_memcpy"] == 1 and all(r["gbytes_per_second"] > 0 for r in rows)'

# A rank that dies: the other one ends with 4 and says which.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port
RANK=1 "$program" --min 1K --max 1K --iterations 100000000 >/dev/null 2>&1 &
lost=$!
RANK=0 timeout -k 5 90 "$program" --min 1K --max 1K --iterations 100000000 >"$work/out" 2>"$work/err" &
left=$!
for _ in $(seq 300); do # until they have met
  ! grep -q all_reduce "$work/out" || break
  sleep 0.1
done
kill -KILL $lost
wait $lost 2>/dev/null
wait $left
code=$?
if [ "$code" = 4 ] && grep -q 'peer 1\|rank 1' "$work/err"; then ok; else no 'a lost rank' "exit code $code instead of 4"; fi

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
