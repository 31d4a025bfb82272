#!/usr/bin/env bash
# The experiment scripts from outside: perf.sh, batch.sh, run_*.sh, plot.py, compare_*.sh, sweep_fusion.sh, cluster.sh.
# Usage: tests/scripts/scripts.sh   (BUILD: the build folder, default build). The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
BUILD=$(realpath "${BUILD:-build}")
export BUILD
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT ACP_BACKEND nworkers hosts dnn opt rank bs senlen threshold policy memory preset \
  data iterations warmup epochs measures metrics name project rdma works methods parts scale link out oversubscribe dry fresh \
  models model variants compressor sizes rate steps repeats budget fusion timeout prefix
export json=$work/perf.json OMP_NUM_THREADS=1
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); }
no() { # NAME WHAT
  failed=$((failed + 1))
  echo "FAILED: $1: $2"
  sed 's/^/    out: /' "$work/out" | tail -n 8
  sed 's/^/    err: /' "$work/err" | tail -n 8
}
skip() { skipped=$((skipped + 1)) && echo "skipped: $1"; }
run() { # COMMAND...: from another folder; output to $work/out and $work/err, code to $code
  (cd / && timeout -k 5 240 "$@" >"$work/out" 2>"$work/err" </dev/null)
  code=$?
}
expect() { # NAME CODE PATTERN: of the output, or for code 2 of the one line on standard error
  local where=$work/out
  if [ "$2" = 2 ]; then where=$work/err; fi
  if [ "$code" != "$2" ]; then
    no "$1" "exit code $code instead of $2"
  elif ! grep -qE -- "$3" "$where"; then
    no "$1" "no \"$3\""
  elif [ "$2" = 2 ] && [ "$(grep -cE '^[a-z_-]+(\.sh)?: ' "$work/err")" != 1 ]; then # mpirun has a banner of its own
    no "$1" "not one line on standard error"
  else
    ok
  fi
}
same() { # NAME A B
  if [ "$2" = "$3" ]; then ok; else no "$1" "\"$2\" is not \"$3\""; fi
}
key() { python3 -c 'import json, sys; print(eval("o" + sys.argv[2], {"o": json.loads(open(sys.argv[1]).readlines()[-1])}))' "$1" "$2"; }
perf=$root/scripts/perf.sh

# --- perf.sh ---------------------------------------------------------------------------------------------------------
run env dnn=mnist nworkers=2 opt=acpsgd rank=2 bs=8 iterations=4 warmup=1 threshold=5 name=one "$perf"
expect 'perf.sh' 0 '^mnist acpsgd:rank=2 2x8: [0-9.]+ ms/step .* samples/s, .* ratio '
same 'perf.sh: one line' "$(wc -l <"$work/out")" 1
same 'perf.sh: its settings' "$(key "$json" '["compressor"], o["world_size"], o["batch_size"], o["iterations"], o["fusion_mb"], o["name"], o["data"]')" \
  "('acpsgd:rank=2', 2, 8, 4, 5.0, 'one', 'synthetic')"
run env dnn=mnist nworkers=2 bs=16 epochs=1 data=digits:train=256,eval=128 overlap=0 backend=tcp metrics="$work/metrics" "$perf" --lr 0.01
expect 'perf.sh trains, over tcp' 0 'eval accuracy [0-9.]+$'
same 'perf.sh: appended' "$(wc -l <"$json")" 2
same 'perf.sh: trained' "$(key "$json" '["compressor"], o["backend"], o["overlap"], o["lr"], o["steps"]')" "('none', 'tcp', False, 0.01, 8)"
same 'perf.sh: metrics' "$(key "$work/metrics" '["kind"]')" epoch
run env nworkers=5 hosts="a:2 b:2" "$perf"
expect 'more ranks than slots' 2 'nworkers=5.*a:2 b:2.*4 slots.*oversubscribe=1'
run env nworkers=many "$perf"
expect 'no number' 2 'nworkers=many'
run env hosts="a:0" "$perf"
expect 'a bad host' 2 '"a:0" is not name'
run env nworkers=1 opt=acpsgd rank=none dnn=mnist "$perf"
expect 'a bad rank' 2 'rank=none'
run env nworkers=2 opt=acpsdg dnn=mnist bs=4 iterations=1 "$perf"
expect 'a bad compressor is told by acp-train' 2 'did you mean .*acpsgd'
run env dry=1 nworkers=5 hosts="a:4 b:4" rdma=0 ETH_INTERFACE=eth7 dnn=bert_base opt=powersgd "$perf"
expect 'host lists' 0 'mpirun .*-np 5 -H a:4\\?,b:4 .*btl_tcp_if_include eth7.*--model bert_base:head=pretrain\\?,vocab=30528 --compressor powersgd:rank=32.*--seq-len 64'
run env dry=1 rdma=1 IB_INTERFACE=ib0 nworkers=2 hosts="a b" "$perf"
expect 'InfiniBand' 0 'btl_tcp_if_include ib0'
same 'InfiniBand is not held to TCP' "$(grep -c 'pml ob1' "$work/out")" 0
run env dry=1 preset=acp-mnist "$perf"
expect 'a preset decides' 0 '--preset acp-mnist'
same 'a preset has its own model and compressor' "$(grep -cE -- '--(model|compressor|iterations)' "$work/out")" 0

run env dry=1 preset=acp-mnist rank=8 "$perf"
expect 'a rank for a preset without opt' 2 'rank=8: preset=acp-mnist'
run env dry=1 preset=acp-bert-base opt=powersgd "$perf"
expect "a preset's model decides the rank" 0 'powersgd:rank=32 '
run env dry=1 preset=acp-resnet50 opt=acpsgd "$perf"
expect "a preset's model decides the rank, 4" 0 'acpsgd:rank=4 '
for dnn in resnet50 bert-base lstm-lm ncf; do
  run env dry=1 dnn=$dnn "$perf"
  expect "step times of $dnn: plain SGD" 0 \
    '--data synthetic .*--no-eval --optimizer sgd --lr [0-9.e-]+ --momentum 0 --weight-decay 0 --clip 0 --lr-schedule constant'
done
run env dry=1 dnn=mnist iterations=5 measures=0 "$perf"
expect 'iterations that train' 0 '--model mnist .*--iterations 5'
same 'iterations that train: as the model trains' "$(grep -cE -- '--(no-eval|data|optimizer)' "$work/out")" 0
run env dry=1 measures=yes "$perf"
expect 'measures is 0 or 1' 2 'measures=yes'
run env dry=1 measures=1 epochs=2 "$perf"
expect 'epochs measure no step times' 2 'measures=1'

# --- run_*.sh, mnist.sh ----------------------------------------------------------------------------------------------
for script in legacy lgreco gravac accordion hybrids baseline; do
  run env dry=1 nworkers=2 "$root/scripts/run_$script.sh"
  expect "run_$script.sh" 0 '--preset [a-z0-9-]+'
done
"$BUILD/benchmarks/acp-train" --list-presets >"$work/presets"
missing=$(grep -ohE 'preset=[a-z]+-[a-z0-9-]+' scripts/run_*.sh | cut -d = -f 2 | sort -u | while read -r preset; do
  grep -q "^$preset:" "$work/presets" || printf '%s ' "$preset"
done)
same 'every preset of run_*.sh is there' "$missing" ''
run env dry=1 dnn=nothing "$root/scripts/run_gravac.sh"
expect 'run_gravac.sh: another model' 2 'dnn=nothing'
run env nworkers=2 epochs=1 data=digits:train=512,eval=128 "$root/scripts/mnist.sh"
expect 'mnist.sh' 0 '^mnist acpsgd:rank=4 2x64.*accuracy'

# --- batch.sh, plot.py -----------------------------------------------------------------------------------------------
run "$root/scripts/batch.sh" --list
expect 'batch.sh lists' 0 '^threshold .*NeurIPS'
run "$root/scripts/batch.sh" legasy
expect 'a batch that is none' 2 'legasy.*known: acp, legacy'
run env scale=3 "$root/scripts/batch.sh" acp
expect 'a scale that is none' 2 'scale=3'
for wrong in methods parts works; do
  run env dry=1 hosts=a:64 $wrong=foo out="$work/dry" "$root/scripts/batch.sh" acp
  expect "batch.sh: $wrong=foo" 2 'foo'
done
run env hosts= dry=1 "$perf"
expect 'perf.sh: hosts that are empty' 2 'hosts is empty'
run env dry=1 overlap=no "$perf"
expect 'perf.sh: overlap=no' 2 'overlap=no'
run env dry=1 dnn=nosuch "$root/scripts/run_hybrids.sh"
expect 'run_hybrids.sh: another network' 2 'dnn=nosuch'
run env dry=1 dnn=nosuch "$root/scripts/mnist.sh"
expect 'mnist.sh: another network' 2 'dnn=nosuch'
run env dry=1 topk=0 "$root/scripts/run_accordion.sh"
expect 'topk=0 is no top-k' 0 '--preset accordion-resnet18-cifar10'
printf '{"kind":"step","step":1}\n' >"$work/steps.json"
run python3 "$root/scripts/plot.py" "$work/steps.json" --out "$work/none"
if grep -q 'is it a --metrics file' "$work/err"; then ok; else no 'plot.py: a metrics file' 'no word of it'; fi
for batch in acp legacy lgreco gravac hybrids granularity threshold; do
  for scale in 0 2; do
    run env dry=1 hosts=a:64 scale=$scale out="$work/dry" "$root/scripts/batch.sh" $batch
    expect "batch.sh $batch, scale $scale, dry" 0 'acp-train .*--name'
    same "batch.sh $batch, scale $scale: every command is whole" "$(grep -c . "$work/out")" "$(grep -c -- "--project $batch" "$work/out")"
  done
done
# Points that learn something evaluate, whether or not there is data; synthetic only where nothing else is built in. A copy
# of the scripts has no folder of data beside it.
mkdir -p "$work/tree" "$work/data"/{mnist,cifar10,cifar100,ptb,wikitext-103,ml-20m,image-folder} && cp -r scripts envs.conf "$work/tree"
for batch in legacy lgreco gravac hybrids granularity threshold; do
  for scale in 0 1 2; do
    run env dry=1 hosts=a:64 scale=$scale out="$work/dry" ACP_DATA="$work/data" "$root/scripts/batch.sh" $batch
    expect "batch.sh $batch, scale $scale, with data" 0 "--data $work/data"
    same "batch.sh $batch, scale $scale, with data: real data, evaluated" "$(grep -cE -- "--no-eval|--data synthetic|--data markov|--data digits" "$work/out")" 0
    run env -u ACP_DATA dry=1 hosts=a:64 scale=$scale out="$work/dry" "$work/tree/scripts/batch.sh" $batch
    expect "batch.sh $batch, scale $scale, without data" 0 '--data (synthetic|markov|digits)'
    same "batch.sh $batch, scale $scale, without data: evaluated" "$(grep -c -- --no-eval "$work/out")" 0
    same "batch.sh $batch, scale $scale, without data: synthetic for images and ratings alone" \
      "$(grep -- '--data synthetic' "$work/out" | grep -cvE -- '--name (resnet|vgg|ncf)')" 0
    same "batch.sh $batch, scale $scale, without data: no set of a folder" "$(grep -cE -- '--data-set (cifar|ptb|wiki|ml-|image)' "$work/out")" 0
  done
done
run env dry=1 hosts=a:64 scale=2 works=transformer-xl out="$work/dry" ACP_DATA="$work/data" "$root/scripts/batch.sh" lgreco
same "L-GreCo's own recipe at scale 2" "$(grep -c -- '--preset lgreco-transformer-xl-wikitext103 .*--batch-size 8 ' "$work/out")" 7
run env dry=1 hosts=a:64 scale=0 out="$work/dry" "$root/scripts/batch.sh" hybrids
same 'hybrids: clipped before compression alone' "$(grep -c -- '--clip 0 --clip-local 0.25' "$work/out")" "$(grep -c . "$work/out")"
mini() { run env works=mnist iterations_of_all=2 nworkers=2 out="$work/batch" "$@"; }
export ACP_PLOT_VENV=no # nothing is loaded for a test
mini methods='ssgd threshold topk' "$root/scripts/batch.sh" threshold
expect 'batch.sh threshold, small' 0 'batch.sh: threshold took'
same 'batch.sh: its points' "$(wc -l <"$work/batch/runs.json")" 5
same 'batch.sh: a CSV line each' "$(wc -l <"$work/batch/runs.csv")" 6
mini dry=1 fresh=1 methods=ssgd "$root/scripts/batch.sh" threshold
same 'batch.sh dry: nothing is removed' "$(wc -l <"$work/batch/runs.json") $(find "$work/batch/metrics" -name '*.json' | wc -l)" '5 5'
if grep -q 'Sahu' "$work/batch/index.html" && grep -qE 'mnist: [0-9.]+( of summed relative errors[^<]*)?</td>' "$work/batch/index.html"; then ok; else no 'the page' 'no published figure beside ours'; fi
mini methods='ssgd threshold topk' "$root/scripts/batch.sh" threshold
same 'batch.sh goes on: nothing is run twice' "$(wc -l <"$work/batch/runs.json")" 5
run env works=mnist iterations_of_all=2 nworkers=1 out="$work/batch" "$root/scripts/batch.sh" threshold
expect 'batch.sh: results of other settings' 2 'nworkers=2 .*nworkers=1 .*fresh=1'
run env works=mnist methods=threshold nworkers=1 out="$work/alone" "$root/scripts/batch.sh" threshold
if [ "$code" != 0 ] && grep -q 'mnist/ssgd' "$work/err" && [ ! -s "$work/alone/runs.json" ]; then ok; else no 'a threshold without the number of parameters' "exit code $code"; fi
# Figures that were not measured are null; squared errors win over relative ones.
mkdir -p "$work/null"
python3 - "$work/batch/runs.json" "$work/null" <<'P'
import json, pathlib, re, sys
folder = pathlib.Path(sys.argv[2])
runs = [json.loads(line) for line in open(sys.argv[1])]
for run in runs:
    run.update(samples_per_second=None, compression_ratio=None, payload_bytes_per_step=None, eval=None)
    error = {"ssgd": None, "threshold": 3.0}.get(run["name"].split("/")[1], 4.0)
    steps = [{"kind": "step", "step": step, "dense_bytes": 8, "payload_bytes": 4, "compression_error": 0.5,
              "compression_error_squared": error} for step in (1, 2, 4)]
    name = re.sub(r"[^A-Za-z0-9=.-]", "_", run["name"])
    (folder / f"{name}.json").write_text("".join(json.dumps(step) + "\n" for step in steps if error))
(folder / "runs.json").write_text("".join(json.dumps(run) + "\n" for run in runs))
P
for batch in threshold acp; do
  run "$root/scripts/plot.py" --metrics "$work/null" --out "$work/null" --batch $batch "$work/null/runs.json"
  same "plot.py: figures that were not measured, $batch" "$code" 0
  [ $batch = acp ] || same 'plot.py: total error' "$(grep -c 'mnist: 0.750</td>' "$work/null/index.html")" 1
done
printf 'no json\n' >"$work/bad.json"
run "$root/scripts/plot.py" --out "$work/plot" "$work/bad.json"
if [ "$code" != 0 ] && grep -q 'bad.json, line 1' "$work/err"; then ok; else no 'plot.py: damaged lines' "exit code $code"; fi
plotter=python3
[ ! -f .cache/plot/complete ] || plotter=$root/.cache/plot/bin/python
if "$plotter" -c 'import matplotlib' 2>/dev/null; then
  run "$plotter" "$root/scripts/plot.py" --metrics "$work/batch/metrics" --out "$work/plot" --batch threshold "$work/batch/runs.json"
  same 'plot.py' "$code" 0
  for picture in step-times metric-over-time compression-error; do
    if [ -s "$work/plot/$picture.png" ]; then ok; else no 'plot.py' "no $picture.png"; fi
  done
  same 'the page holds its pictures' "$(grep -c 'src="data:image/png;base64' "$work/plot/index.html")" "$(find "$work/plot" -name '*.png' | wc -l)"
else
  skip 'pictures of plot.py (matplotlib is missing; scripts/plot.py sets it up on its first use)'
fi

# --- compare_peers.sh, sweep_fusion.sh ---------------------------------------------------------------------------------
peers=$root/scripts/compare_peers.sh
run env dry=1 hosts=4 steps=6 "$peers"
expect 'compare_peers.sh, dry' 0 '^7 x .*cluster.sh .*run --hosts 4 .*--direct -- .*ddp.py lstm-lm --hook powersgd --batch-size 10 --steps 6'
same 'compare_peers.sh: four models by nine variants' "$(wc -l <"$work/out")" 36
same 'compare_peers.sh: fewer repeats of long steps' "$(grep -c '^3 x .*bert-base' "$work/out")" 9
run env dry=1 rate=auto models=bert "$peers"
same 'compare_peers.sh: on a link of its own choice ours alone' "$(grep -c acp-train "$work/out") $(wc -l <"$work/out")" '5 5'
run env dry=1 hosts=8 rate=100mbit sizes=10M "$root/scripts/compare_collectives.sh"
expect 'compare_collectives.sh, dry' 0 'acp-comm .*--min 10485760 --max 10485760 --iterations 5 .*--backend tcp --algorithm ring'
same 'compare_collectives.sh: six ways' "$(wc -l <"$work/out")" 6
run env dry=1 sizes=10X "$root/scripts/compare_collectives.sh"
expect 'compare_collectives.sh: no size' 2 '^compare_collectives.sh: sizes: 10X: as in'
run env dry=1 ways=nccl "$root/scripts/compare_collectives.sh"
expect 'compare_collectives.sh: no way' 2 'ways: "nccl" is none of'
run env dry=1 model=resnet50 compressor=bf16 sizes='0 8' "$root/scripts/sweep_fusion.sh"
expect 'sweep_fusion.sh, dry' 0 'acp-train --model resnet50:.* --compressor bf16 --fusion-mb auto'
same 'sweep_fusion.sh: every size' "$(grep -oE -- '--fusion-mb [^ ]+' "$work/out" | xargs)" '--fusion-mb 0 --fusion-mb 8 --fusion-mb auto'
run env models=vgg "$peers"
expect 'compare_peers.sh: a model that is none' 2 'unknown "vgg"; known: resnet18'
run env variants='alone ddq' "$peers"
expect 'compare_peers.sh: a variant that is none' 2 '"ddq" is none of alone'
run env rate=fast "$peers"
expect 'compare_peers.sh: a rate that is none' 2 'rate=fast: as in 1gbit'
run env hosts=two "$peers"
expect 'compare_peers.sh: a number that is none' 2 'hosts=two'
# The table, of runs whose ratios are known: bytes need 100 ms on the link, computing alone 50.
python3 - >"$work/peers.json" <<'P'
import json
for turn in range(3):
    for variant, ms, wire in ("alone", 50, 0), ("ddp:bf16", 240, 12.5e6), ("acp:none", 125, 12.5e6), ("acp:bf16@auto", 80, 1e6):
        print(json.dumps({"model": "resnet18", "variant": variant, "hosts": 2, "rate": "1gbit", "batch_size": 16, "regime": False,
                          "steps": 5, "warmup": 4, "backend": "tcp", "fusion": "25",
                          "step_ms": ms + (1000 if turn == 1 and variant == "acp:none" else turn), "wire_bytes": wire,
                          "others_cores": 0.5, "fusion_mb": 3}))
P
run env json="$work/peers.json" models=resnet18 variants='alone ddp:bf16 acp:none acp:bf16@auto' "$peers" --table --best acp:bf16@auto
expect 'compare_peers.sh: medians and ratios' 0 '^acp:none +3 +127.0 +251.97 +12.50 +0.79 +1.00 +1.90 +0.50$'
expect 'compare_peers.sh: the bound is computing where bytes are few' 0 '^acp:bf16@auto +3 +81.0 .* 0.63 +1.57 +2.98 +0.50$'
expect 'compare_peers.sh: against the best other' 0 '^acp:bf16@auto \(3 MB\): 1.588 of the step of alone'
same 'compare_peers.sh: that comes last' "$(tail -n 1 "$work/out" | cut -d' ' -f1)" acp:bf16@auto
run env json="$work/peers.json" models=resnet18 variants='alone acp:none' fusion=8 "$peers" --table
same 'compare_peers.sh: runs of other settings are none of these' "$(grep -c ^acp "$work/out")" 0

# --- cluster.sh ------------------------------------------------------------------------------------------------------
export NETNS_CLUSTER_PREFIX=acptest
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null && command -v tc >/dev/null && scripts/cluster.sh up 2 100mbit >"$work/out" 2>"$work/err"; then
  run env hosts="$(scripts/cluster.sh hosts)" dnn=mnist nworkers=2 bs=8 iterations=4 warmup=1 "$perf"
  expect 'perf.sh over emulated hosts' 0 '^mnist none 2x8'
  run env hosts="$(scripts/cluster.sh hosts)" dnn=mnist nworkers=2 bs=8 iterations=4 warmup=1 backend=tcp "$perf"
  expect 'the same over tcp' 0 '^mnist none 2x8'
  run env hosts="acptest1 acptest0" nworkers=2 "$perf"
  expect 'emulated hosts in another order' 2 'in this order'
  scripts/cluster.sh down >"$work/out" 2>"$work/err"
  run env json="$work/mini.json" models=mnist variants='alone acp:none acp:acpsgd:rank=1@auto' rate=100mbit steps=3 warmup=1 repeats=1 \
    prefix=acptest "$peers"
  expect 'compare_peers.sh over emulated hosts' 0 '^acp:acpsgd:rank=1@auto +1 '
  same 'compare_peers.sh: a line a run' "$(wc -l <"$work/mini.json")" 3
  run env json="$work/mini.json" models=mnist variants='alone acp:none acp:acpsgd:rank=1@auto' rate=100mbit steps=3 warmup=1 repeats=1 \
    prefix=acptest "$peers"
  same 'compare_peers.sh goes on: nothing is run twice' "$code $(wc -l <"$work/mini.json")" '0 3'
  same 'down leaves nothing' "$(ip netns list | grep -c '^acptest')" 0
else
  skip 'emulated cluster (needs root, iproute2 and leave to make network namespaces)'
fi
if command -v shellcheck >/dev/null; then
  if shellcheck -x scripts/{perf,batch,batch_works,cluster,compare_collectives,compare_peers,mnist,run_*,sweep_fusion}.sh scripts/slurm.sbatch envs.conf >"$work/out" 2>"$work/err"; then ok; else no shellcheck findings; fi
else
  skip 'shellcheck is not installed'
fi
printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
