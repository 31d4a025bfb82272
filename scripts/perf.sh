#!/usr/bin/env bash
# Runs one experiment and prints one line; its JSON object is appended to a file (results/perf.json).
#   nworkers=4 opt=acpsgd rank=4 dnn=resnet50 bs=2 threshold=25 scripts/perf.sh [more options of acp-train...]
# Everything is set by variables; envs.conf has all of them with their defaults and what they mean. With iterations alone
# (the default) step times are measured on random data; with epochs=N, preset=NAME, data=... or measures=0 it trains.
# Exit codes: those of acp-train; 2 also for a variable that makes no sense, such as nworkers beyond the hosts' slots.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
case "${1:-}" in -h | --help) usage "$0" && exit ;; esac
if [ "${hosts+given}" = given ] && [ -z "${hosts// /}" ]; then
  printf 'perf.sh: hosts is empty: name hosts, or unset it for this machine\n' >&2 && exit 2
fi
given_dnn=${dnn:-} given_opt=${opt:-} # a preset has its own
# shellcheck source=envs.conf
. "$ROOT/envs.conf"
refuse() { printf 'perf.sh: %s\n' "$*" >&2 && exit 2; }
number() { # VARIABLE MINIMUM
  if ! [[ ${!1} =~ ^[0-9]+$ ]] || [ "${!1}" -lt "$2" ]; then refuse "$1=${!1}: must be a whole number from $2"; fi
}
build=${BUILD:-build}
case "$build" in /*) ;; *) build=$ROOT/$build ;; esac
train=$build/benchmarks/acp-train
[ -x "$train" ] || [ "${dry:-0}" != 0 ] || fail "perf.sh: $train is missing; run scripts/build.sh"

# --- what to run ---
if [ -n "$rank" ] && [ -n "$preset" ] && [ -z "$given_opt" ]; then
  refuse "rank=$rank: preset=$preset has a compressor of its own; give opt=powersgd or opt=acpsgd beside it, or leave rank out"
fi
case "$opt" in
  ssgd) compressor=none ;;
  powersgd | acpsgd)
    model=$dnn
    if [ -n "$preset" ] && [ -z "$given_dnn" ]; then model=$preset; fi # PAPER-MODEL-DATA
    case "$model" in bert* | transformer* | *[-_]bert* | *[-_]transformer*) default_rank=32 ;; *) default_rank=4 ;; esac
    rank=${rank:-$default_rank}
    number rank 1
    compressor=$opt:rank=$rank
    ;;
  *) compressor=$opt ;;
esac
case "$measures" in
  '') if [ -z "$epochs$preset$data" ]; then measures=1; else measures=0; fi ;;
  0) ;;
  1) [ -z "$epochs$preset" ] || refuse "measures=1 is for step times: leave out epochs and preset, or set measures=0" ;;
  *) refuse "measures=$measures: 1 (step times on random data) or 0 (training)" ;;
esac
if [ -z "$iterations$epochs$preset" ]; then iterations=50; fi
if [ -n "$iterations" ]; then
  number iterations 1
  if [ -z "$preset" ]; then warmup=${warmup:-10}; fi
fi
options=(--fusion-mb "$threshold" --seed "$seed" --backend "$backend" --device "$device")
add() { # OPTION VALUE: unless the value is empty
  [ -z "$2" ] || options+=("--$1" "$2")
}
# As in the published benchmark: masked words and next sentences, the vocabulary padded to a multiple of 8.
if [ "$measures" = 1 ]; then
  data=${data:-synthetic}
  case "$dnn" in bert?base | bert?large) dnn=$dnn:head=pretrain,vocab=30528 ;; esac
fi
add preset "$preset"
if [ -z "$preset" ] || [ -n "$given_dnn" ]; then add model "$dnn"; fi
if [ -z "$preset" ] || [ -n "$given_opt" ]; then add compressor "$compressor"; fi
case "$dnn" in bert*) if [ -z "$preset" ]; then senlen=${senlen:-64}; fi ;; esac
add iterations "$iterations"
add warmup "$warmup"
add epochs "$epochs"
add batch-size "$bs"
add seq-len "$senlen"
add memory "$memory"
add policy "$policy"
add data "$data"
add metrics "$metrics"
add name "$name"
add project "$project"
case "$overlap" in
  1) ;;
  0) options+=(--no-overlap) ;;
  *) refuse "overlap=$overlap: 1 (reduce during the backward pass) or 0 (after it)" ;;
esac
[ "$verbose" != 0 ] || options+=(--quiet)
if [ "$measures" = 1 ]; then
  # The published benchmarks' plain SGD and rates, which random labels do not drive to infinity; nothing of a model's own
  # recipe (clipping, decay, schedule) in the step.
  case "$dnn" in bert*) rate=2e-5 ;; *) rate=0.01 ;; esac
  options+=(--no-eval --optimizer sgd --lr "$rate" --momentum 0 --weight-decay 0 --clip 0 --lr-schedule constant)
fi
options+=("$@")

# --- where to run it ---
number nworkers 1
read -ra list <<<"$hosts"
names=() slots=() total=0
for host in "${list[@]}"; do
  [[ $host =~ ^[A-Za-z0-9._-]+(:[1-9][0-9]*)?$ ]] || refuse "hosts: \"$host\" is not name[:slots]"
  names+=("${host%%:*}")
  case "$host" in *:*) slots+=("${host##*:}") ;; *) slots+=(1) ;; esac
  total=$((total + slots[-1]))
done
if [ "$nworkers" -gt "$total" ] && [ "$oversubscribe" != 1 ]; then
  refuse "nworkers=$nworkers, but hosts (${list[*]}) have $total slots; add hosts, or set oversubscribe=1"
fi
case "$rdma" in
  1) interface=$IB_INTERFACE ;;
  0) interface=$ETH_INTERFACE ;;
  *) interface=$ETH_INTERFACE_1Gb ;;
esac
[ -z "$interface" ] || export ACP_INTERFACE=${ACP_INTERFACE:-$interface} NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$interface}
if [ "$rdma" = 1 ]; then export NCCL_IB_DISABLE=${NCCL_IB_DISABLE:-0}; else export NCCL_IB_DISABLE=${NCCL_IB_DISABLE:-1}; fi
[ -z "$NCCLPATH" ] || export LD_LIBRARY_PATH=$NCCLPATH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
if [ -n "$MPIPATH" ]; then
  export PATH=$MPIPATH/bin:$PATH LD_LIBRARY_PATH=$MPIPATH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  MPIRUN+=(--prefix "$MPIPATH")
fi

is_here() { case "$1" in localhost | 127.0.0.1 | "$(hostname)" | "$(hostname -f 2>/dev/null)") ;; *) return 1 ;; esac }
pass_on() { # VARIABLE...: those and ours that are set, to the ranks
  local variable
  for variable in "$@" ACP_TIMEOUT ACP_LOG ACP_DATA ACP_SECRET NCCL_IB_DISABLE NCCL_ALGO; do
    [ -z "${!variable:-}" ] || launch+=(-x "$variable")
  done
}
emulated=${names[0]} # hosts of scripts/cluster.sh are its prefix and a number
while [[ $emulated == *[0-9] ]]; do emulated=${emulated%?}; done
here=1
for host in "${names[@]}"; do is_here "$host" || here=''; done
if [ -f "${NETNS_CLUSTER_STATE:-/run/netns-cluster}/$emulated/state.json" ]; then
  for i in "${!names[@]}"; do
    if [ "${names[i]}" != "$emulated$i" ] || [ "${slots[i]}" != "${slots[0]}" ]; then
      refuse "hosts of an emulated cluster are ${emulated}0 ${emulated}1 ... in this order, with equal slots; got ${list[*]}"
    fi
  done
  each=${slots[0]}
  if [ "$nworkers" -gt "$total" ]; then each=$(((nworkers + ${#names[@]} - 1) / ${#names[@]})); fi
  [ $((nworkers % each)) = 0 ] || refuse "nworkers=$nworkers does not fill emulated hosts of $each slots"
  launch=("$ROOT/scripts/cluster.sh" --prefix "$emulated" run --hosts $((nworkers / each)) -n "$each")
  [ "$backend" != tcp ] || launch+=(--direct)
  pass_on
  launch+=(--)
elif [ -n "$here" ] && [ "$backend" = tcp ]; then
  launch=("$ROOT/scripts/run_tcp.sh" "$nworkers")
else
  launch=("${MPIRUN[@]}" -np "$nworkers")
  if [ -z "$here" ]; then
    launch+=(-H "$(IFS=,; for i in "${!names[@]}"; do list[i]=${names[i]}:${slots[i]}; done; printf '%s' "${list[*]}")" --map-by slot)
    if [ -n "$interface" ]; then launch+=(--mca oob_tcp_if_include "$interface" --mca btl_tcp_if_include "$interface"); fi
    if [ "$rdma" != 1 ]; then launch+=(--mca pml ob1 --mca btl "tcp,self,vader"); fi
    export MASTER_ADDR=${MASTER_ADDR:-${names[0]}} MASTER_PORT=${MASTER_PORT:-29500} # for backend=tcp
    pass_on LD_LIBRARY_PATH MASTER_ADDR MASTER_PORT ACP_INTERFACE NCCL_SOCKET_IFNAME OMP_NUM_THREADS
  fi
fi

if [ "${dry:-0}" != 0 ]; then # for a look, and for the tests
  printf '%q ' "${launch[@]}" "$train" "${options[@]}" --json -
  printf '\n'
  exit
fi
result=$(mktemp)
trap 'rm -f "$result"' EXIT
code=0
"${launch[@]}" "$train" "${options[@]}" --json - </dev/null >"$result" || code=$?
[ "$code" = 0 ] || exit "$code"
mkdir -p "$(dirname "$json")"
"$PY" - "$result" "$json" <<'P'
import json
import sys

lines = [line for line in open(sys.argv[1]) if line.startswith("{")]
if not lines:
    sys.exit("perf.sh: acp-train wrote no result")
run = json.loads(lines[-1])
with open(sys.argv[2], "a") as out:
    out.write(lines[-1])
text = f"{run['model']} {run['compressor']} {run['world_size']}x{run['batch_size']}"
if run["policy"] != "uniform":
    text += f" {run['policy']}"
ms = run["step_ms"]
if ms["mean"] is not None:
    text += (f": {ms['median']:.1f} ms/step (mean {ms['mean']:.1f}: compute {ms['compute']:.1f}, exposed communication "
             f"{ms['exposed_comm']:.1f}; encode {ms['encode']:.1f}, decode {ms['decode']:.1f}, communication {ms['comm']:.1f}), "
             f"{run['samples_per_second']:.4g} samples/s, {run['payload_bytes_per_step'] / 1e6:.4g} MB/step, "
             f"ratio {run['compression_ratio']:.4g}")
for part in ("eval", "test"):
    if run[part] and run[part]["value"] is not None:  # null: infinite
        text += f", {part} {run[part]['name']} {run[part]['value']:.4g}"
print(text)
P
