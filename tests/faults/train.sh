#!/usr/bin/env bash
# acp-train from outside: exit codes, messages, JSON, signals, resume; alone, under mpirun and over tcp.
# Usage: tests/faults/train.sh [BUILD]   (default: $BUILD, else build). The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-${BUILD:-build}}
train=$build/benchmarks/acp-train
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT ACP_DATA ACP_BACKEND ACP_TRACE
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); }
no() { # NAME WHAT: reports, with what the program said
  failed=$((failed + 1))
  echo "FAILED: $1: $2"
  sed 's/^/    out: /' "$work/out" | tail -n 5
  sed 's/^/    err: /' "$work/err" | tail -n 8
}
run() { # SECONDS COMMAND...: output to $work/out and $work/err, code to $code
  local limit=$1
  shift
  timeout -k 5 "$limit" "$@" >"$work/out" 2>"$work/err"
  code=$?
}
# NAME CODE TEXT: the last run ended so, with one line of ours on standard error that has the text.
expect() {
  local lines
  lines=$(grep -c '^acp-train: ' "$work/err")
  if [ "$code" != "$2" ]; then
    no "$1" "exit code $code instead of $2"
  elif [ "$lines" != 1 ]; then
    no "$1" "$lines error lines instead of one"
  elif ! grep '^acp-train: ' "$work/err" | grep -qE -- "$3"; then
    no "$1" "the message lacks \"$3\""
  else
    ok
  fi
}
expect_ok() { # NAME
  if [ "$code" = 0 ]; then ok; else no "$1" "exit code $code"; fi
}
same() { # NAME A B
  if [ -n "$2" ] && [ "$2" = "$3" ]; then ok; else no "$1" "\"$2\" is not \"$3\""; fi
}
key() { python3 -c 'import json, sys; print(eval("o" + sys.argv[2], {"o": json.loads(open(sys.argv[1]).read().splitlines()[-1])}))' "$1" "$2"; }
mpi() { # RANKS ARGUMENTS...
  local ranks=$1
  shift
  run 120 mpirun -np "$ranks" --bind-to none --oversubscribe "$train" "$@"
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
tcp() { # WORLD RANKS ARGUMENTS...: starts the ranks named in RANKS ("0 1"); code is the worst, output that of all
  local world=$1 ranks=$2 rank codes=() pids=()
  shift 2
  : >"$work/out"
  : >"$work/err"
  for rank in $ranks; do
    RANK=$rank WORLD_SIZE=$world LOCAL_RANK=$rank MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
      timeout -k 5 120 "$train" "$@" >>"$work/out" 2>>"$work/err" &
    pids+=($!)
  done
  code=0
  for pid in "${pids[@]}"; do
    wait "$pid"
    codes+=($?)
  done
  for rank in "${codes[@]}"; do [ "$rank" -gt "$code" ] && code=$rank; done
}

small=(--model mnist --data "digits:train=512,eval=256" --batch-size 16 --quiet)
brief=("${small[@]}" --iterations 4 --no-eval)

# --- wrong arguments: exit 2, one line, from rank 0 alone ------------------------------------------------------------
wrong() { # TEXT ARGUMENTS...
  local text=$1
  shift
  run 60 "$train" "$@"
  expect "$*" 2 "$text"
}
wrong 'did you mean .*acpsgd' --compressor acpsdg:rank=4
wrong 'rank' --compressor acpsgd:rnak=4
wrong 'did you mean .*mnist' --model mnits
wrong 'did you mean sgd' --optimizer sdg
wrong 'did you mean cosine' --lr-schedule cosin
wrong 'did you mean --batch-size' --batch-sise 4
wrong '--batch-size 0' --batch-size 0
wrong '--lr fast' --lr fast
wrong 'did you mean acp-mnist' --preset acp-mnits
wrong 'did you mean mpi' --backend mpii
wrong '--json .*cannot be written' "${brief[@]}" --json "$work/no/such/folder/x.json"
wrong '--metrics .*cannot be written' "${brief[@]}" --metrics "$work/no/such/folder/x.json"
wrong '--checkpoint /proc/none: cannot be written' "${brief[@]}" --checkpoint /proc/none
wrong 'needs --checkpoint' "${brief[@]}" --resume
wrong 'no checkpoint' "${brief[@]}" --resume --checkpoint "$work/nothing-here"
wrong 'cannot save the optimizer lbfgs' "${brief[@]}" --optimizer lbfgs --checkpoint "$work/nothing-here"
mpi 3 --compressor acpsdg:rank=4
expect 'typo under mpirun' 2 'did you mean .*acpsgd'
if [ ! -e /dev/nvidiactl ]; then # what they say where there is a GPU is tested in tests/gpu
  mpi 3 "${brief[@]}" --device cuda
  expect 'no GPU, under mpirun' 2 'device "cuda": '
  mpi 3 "${brief[@]}" --backend nccl
  expect 'no GPU for NCCL, under mpirun' 2 'the backend mpi or tcp'
fi
ACP_TIMEOUT=soon mpi 3 "${brief[@]}"
expect 'ACP_TIMEOUT, under mpirun' 2 'ACP_TIMEOUT is "soon"'

# --- data: exit 3 ----------------------------------------------------------------------------------------------------
bad_data() { # NAME TEXT DIR
  run 60 "$train" --model mnist --data "$3"
  expect "$1" 3 "$2"
}
bad_data 'missing folder' 'missing-folder' "$work/missing-folder"
mkdir -p "$work/empty" "$work/truncated/mnist"
bad_data 'empty folder' 'empty' "$work/empty"
# 60000 images promised, 100 bytes there.
{ printf '\x00\x00\x08\x03\x00\x00\xea\x60\x00\x00\x00\x1c\x00\x00\x00\x1c' && head -c 100 /dev/zero; } >"$work/truncated/mnist/train-images-idx3-ubyte"
{ printf '\x00\x00\x08\x01\x00\x00\xea\x60' && head -c 60000 /dev/zero; } >"$work/truncated/mnist/train-labels-idx1-ubyte"
cp "$work/truncated/mnist/train-images-idx3-ubyte" "$work/truncated/mnist/t10k-images-idx3-ubyte"
cp "$work/truncated/mnist/train-labels-idx1-ubyte" "$work/truncated/mnist/t10k-labels-idx1-ubyte"
bad_data 'truncated IDX' 'idx3-ubyte.*(truncated|bytes|short)' "$work/truncated"
run 60 "$train" --check-data "$work/truncated"
expect '--check-data of a truncated set' 3 'truncated'
mpi 2 --model mnist --data "$work/missing-folder"
expect 'missing folder under mpirun' 3 'missing-folder'

# --- listings --------------------------------------------------------------------------------------------------------
listing() { # TEXT ARGUMENTS...
  local text=$1
  shift
  run 60 "$train" "$@"
  expect_ok "$*"
  if grep -qE -- "$text" "$work/out"; then ok; else no "$*" "the output lacks \"$text\""; fi
}
listing '--compressor SPEC' --help
listing '^acp-train [0-9]' --version
listing '21,840' --list-models
listing '^acp-mnist' --list-presets
missing=
for option in $("$train" --help | grep -oE -- '--[a-z][a-z-]+' | sort -u); do
  [ ! -f docs/options.md ] || grep -q -- "$option\b" docs/options.md || missing="$missing $option"
done
if [ -z "$missing" ]; then ok; else no 'docs/options.md' "lacks$missing"; fi

# --- JSON ------------------------------------------------------------------------------------------------------------
keys='model data world_size backend algorithm compressor memory policy optimizer batch_size seed iterations epochs seconds
samples_per_second step_ms payload_bytes_per_step dense_bytes_per_step compression_ratio bytes_sent_per_step
bytes_sent_estimated wire_ratio train_loss eval test plan_changes name project parameters_hash peak_rss_mb version'
complete() { # NAME FILE
  local missing
  missing=$(python3 - "$2" "$keys" <<'PY'
import json, sys
lines = open(sys.argv[1]).read().splitlines()
object = json.loads(lines[-1])
missing = [k for k in sys.argv[2].split() if k not in object]
missing += ["step_ms." + k for k in "median p10 p90 compute exposed_comm encode decode".split() if k not in object["step_ms"]]
print(" ".join(missing))
PY
  )
  if [ -z "$missing" ]; then ok; else no "$1" "lacks $missing"; fi
}
run 120 "$train" "${brief[@]}" --json - --name one --project tests
expect_ok '--json -'
same '--json - alone on standard output' "$(wc -l <"$work/out")" 1
complete '--json -' "$work/out"
same 'name' "$(key "$work/out" '["name"]')" one
same 'one rank sends nothing' "$(key "$work/out" '["bytes_sent_per_step"]')" 0
same 'no wire ratio alone' "$(key "$work/out" '["wire_ratio"]')" None
same 'dense bytes' "$(key "$work/out" '["dense_bytes_per_step"]')" 87360
same 'iterations' "$(key "$work/out" '["iterations"]')" 4
run 120 "$train" "${brief[@]}" --json "$work/a.json" --warmup 1 --log-every 2 --metrics "$work/m.json"
run 120 "$train" "${brief[@]}" --json "$work/a.json"
same 'appended' "$(wc -l <"$work/a.json")" 2
same 'metrics per step' "$(grep -c '"kind":"step"' "$work/m.json")" 2
same 'quiet: bytes written' "$(cat "$work/out" "$work/err" | wc -c)" 0
run 120 "$train" --model mnist --data "digits:train=512,eval=256" --batch-size 16 --iterations 2
if grep -q $'\r' "$work/out"; then no 'no progress line into a pipe' 'carriage return'; else ok; fi
# Open MPI gives its processes a terminal of its own.
mpi 2 --model mnist --data "digits:train=512,eval=256" --batch-size 16 --iterations 2
if grep -q $'\r.*step' "$work/out"; then no "no progress line into mpirun's pipe" 'progress line'; else ok; fi

# --- ranks -----------------------------------------------------------------------------------------------------------
for spec in none powersgd:rank=2 acpsgd:rank=2 fp16; do
  for backend in mpi tcp; do
    if [ $backend = mpi ]; then
      mpi 2 "${brief[@]}" --compressor $spec --json "$work/r.json"
    else
      port=$(free_port)
      tcp 2 '0 1' "${brief[@]}" --compressor $spec --json "$work/r.json"
    fi
    expect_ok "$spec over $backend"
    same "$spec over $backend: backend" "$(key "$work/r.json" '["backend"]')" $backend
    complete "$spec over $backend" "$work/r.json"
    hash=$(key "$work/r.json" '["parameters_hash"]')
    if [ $backend = mpi ]; then over_mpi=$hash; else same "$spec: two ranks' sums do not depend on the backend" "$hash" "$over_mpi"; fi
  done
  if [ $spec = none ]; then same 'ratio of none' "$(key "$work/r.json" '["compression_ratio"]')" 1.0; fi
done
port=$(free_port)
tcp 2 '0 1' "${brief[@]}"
same 'quiet over tcp' "$code $(cat "$work/out" "$work/err")" '0 '
mpi 2 "${brief[@]}" --clip-local 1 --json -
if [ "$code" = 0 ] && python3 -c 'import json, sys; [json.loads(line) for line in sys.stdin]' <"$work/out"; then
  ok
else
  no '--clip-local --json -' 'standard output is no JSON'
fi
run 60 env ACP_TRACE="$work/timeline.json" "$train" "${brief[@]}"
if [ "$code" = 0 ] && grep -q '"name":"backward"' "$work/timeline.json"; then ok; else no ACP_TRACE 'no backward pass in the timeline'; fi
port=$(free_port)
ACP_TIMEOUT=4 tcp 3 '0 1' "${brief[@]}"
same 'a rank that never shows up: code' "$code" 4
if grep -E '^acp-train: ' "$work/err" | grep -qE 'rank 2'; then ok; else no 'a rank that never shows up' 'is not named'; fi
port=$(free_port)
ACP_TIMEOUT=10 tcp 2 '0 1 2' "${brief[@]}"
if grep -E '^acp-train: ' "$work/err" | grep -qE 'rank 2.*(world|size)|(world|size).*rank 2'; then ok; else no 'more ranks than expected' 'is not said'; fi
python3 -c 'import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(60)' >"$work/port" &
holder=$!
while [ ! -s "$work/port" ]; do sleep 0.1; done
port=$(cat "$work/port")
ACP_TIMEOUT=4 tcp 2 '0' "${brief[@]}"
kill $holder
wait $holder 2>/dev/null
same 'port taken: code' "$code" 2
if grep -E '^acp-train: ' "$work/err" | grep -qE "$port"; then ok; else no 'port taken' 'is not named'; fi

# --- ranks that read unlike data ------------------------------------------------------------------------------------
# shellcheck disable=SC2016
run 120 mpirun -np 2 --bind-to none --oversubscribe bash -c \
  'exec "$0" --model mnist --data "digits:train=$((512 + OMPI_COMM_WORLD_RANK * 64)),eval=256" --iterations 1 --quiet' "$train"
expect 'ranks on unlike data' 2 'data set .*train=512.* on rank 0.*train=576.* on rank 1'

# --- resume: two epochs at once = one, a new process, one more ------------------------------------------------------
twice() { # NAME LAUNCHER RANKS COMPRESSOR
  local name=$1 launcher=$2 compressor=$3
  local job=("${small[@]}" --compressor "$compressor" --lr-schedule constant --checkpoint-every 5)
  rm -rf "$work/c1" "$work/c2" "$work/once.json" "$work/half.json" "$work/twice.json"
  $launcher 2 "${job[@]}" --epochs 2 --checkpoint "$work/c1" --json "$work/once.json"
  expect_ok "$name: two epochs"
  $launcher 2 "${job[@]}" --epochs 1 --checkpoint "$work/c2" --json "$work/half.json"
  expect_ok "$name: the first epoch"
  $launcher 2 "${job[@]}" --epochs 2 --checkpoint "$work/c2" --resume --json "$work/twice.json"
  expect_ok "$name: the second epoch"
  for what in '["parameters_hash"]' '["train_loss"]' '["eval"]["value"]' '["steps"]'; do
    same "$name: $what" "$(key "$work/twice.json" "$what")" "$(key "$work/once.json" "$what")"
  done
  if [ "$(key "$work/half.json" '["parameters_hash"]')" = "$(key "$work/once.json" '["parameters_hash"]')" ]; then
    no "$name" 'the second epoch changed nothing'
  else
    ok
  fi
}
tcp_pair() {
  local ranks=$1
  shift
  port=$(free_port)
  tcp "$ranks" '0 1' "$@"
}
twice 'mpi, none' mpi none
twice 'mpi, acpsgd' mpi acpsgd:rank=2
twice 'tcp, powersgd' tcp_pair powersgd:rank=2

# --- in the middle of an epoch a recurrent model goes on with what it carried ----------------------------------------
job=(--model lstm-lm:layers=1,hidden=8,dropout=0.2,seq=5 --data markov:vocab=20,train=4000,eval=400 --batch-size 4
  --lr-schedule constant --no-eval)
rm -f "$work/once.json" "$work/twice.json"
mpi 2 "${job[@]}" --iterations 12 --json "$work/once.json"
expect_ok 'lstm-lm: twelve steps'
mpi 2 "${job[@]}" --iterations 6 --checkpoint "$work/lm"
expect_ok 'lstm-lm: six steps'
mpi 2 "${job[@]}" --iterations 12 --checkpoint "$work/lm" --resume --json "$work/twice.json"
expect_ok 'lstm-lm: six more'
same 'lstm-lm: parameters' "$(key "$work/twice.json" '["parameters_hash"]')" "$(key "$work/once.json" '["parameters_hash"]')"

# --- checkpoints: nothing is overwritten, damage is told, other numbers of ranks -------------------------------------
job=("${brief[@]}" --compressor acpsgd:rank=2 --checkpoint "$work/c3")
mpi 2 "${job[@]}"
expect_ok 'a checkpoint'
(cd "$work/c3" && find . -type f -exec sha256sum {} +) >"$work/sums"
mpi 2 "${job[@]}" --seed 7
expect 'another run into the same folder' 2 'holds a checkpoint after step 4: .*--resume'
if [ -s "$work/sums" ] && (cd "$work/c3" && sha256sum --quiet -c "$work/sums") >"$work/out" 2>&1; then ok; else
  no 'another run into the same folder' 'changed what the first had written'
fi
mpi 2 "${job[@]}" --optimizer adam --resume
expect 'the checkpoint of another job' 2 'is of mnist with sgd, this run is mnist with adam'
mpi 2 "${small[@]}" --iterations 6 --no-eval --compressor none --seed 7 --checkpoint "$work/c3" --resume
expect_ok 'resumed with other settings'
for what in '--compressor none' '--seed 7'; do
  if grep -q -- "resuming with $what" "$work/err"; then ok; else no 'resumed with other settings' "$what is not said"; fi
done
for what in --data --lr 'world size'; do
  if grep -q -- "resuming with .*$what" "$work/err"; then no 'resumed with other settings' "$what is said"; else ok; fi
done
run 60 "$train" "${small[@]}" --epochs 1 --no-eval --warmup 500 --json "$work/r.json"
expect_ok 'nothing measured'
same 'nothing measured' "$(key "$work/r.json" '["samples_per_second"]') $(key "$work/r.json" '["dense_bytes_per_step"]')" 'None 87360'
folders=("$work"/c3/*/)
newest=${folders[-1]}
cp "$newest/manifest.json" "$work/manifest.json"
sed -i 's/"job"/"jib"/' "$newest/manifest.json"
mpi 2 "${job[@]}" --resume
expect 'a manifest that lacks a key' 3 'manifest.json is damaged.*job'
cp "$work/manifest.json" "$newest/manifest.json"
truncate -s -1 "$newest/rank-1.pt"
mpi 2 "${job[@]}" --resume
expect 'a part that was cut off' 3 'rank-1.pt is damaged'

mpi 2 "${small[@]}" --no-eval --iterations 16 --checkpoint "$work/c4"
expect_ok 'a checkpoint of 2 ranks'
mpi 3 "${small[@]}" --no-eval --iterations 24 --checkpoint "$work/c4" --resume --json "$work/r.json"
expect_ok 'resumed on 3 ranks'
same 'resumed on 3 ranks: measured steps' "$(key "$work/r.json" '["iterations"]')" 8
same 'resumed on 3 ranks: ratio of none' "$(key "$work/r.json" '["compression_ratio"]')" 1.0
same 'resumed on 3 ranks: dense bytes' "$(key "$work/r.json" '["dense_bytes_per_step"]')" 87360
# Epochs are what --epochs counts, whatever the steps of one: 32 of 1 rank, 16 of 2, 8 with twice the batch. The second
# checkpoint is of an epoch's middle.
epochs() { # NAME EPOCHS STEPS: of the last run
  expect_ok "$1"
  same "$1: epochs" "$(key "$work/e.json" '["epochs"]')" "$2"
  same "$1: steps" "$(key "$work/e.json" '["iterations"]')" "$3"
}
growing=("${small[@]}" --no-eval --lr-schedule linear --checkpoint "$work/growing" --json "$work/e.json" --metrics "$work/e.metrics" --log-every 1)
run 120 "$train" "${growing[@]}" --epochs 1
epochs 'one epoch alone' 1 32
mpi 2 "${growing[@]}" --epochs 3 --resume
epochs 'two more on 2 ranks' 3 32
run 120 "$train" "${growing[@]}" --epochs 4 --resume --batch-size 32
epochs 'one more with twice the batch' 4 16
same 'the rate falls to 0 all the same' "$(python3 -c '
import json, sys
rates = [json.loads(line)["lr"] for line in open(sys.argv[1]) if "\"step\"" in line]
print(rates[-1] < 0.001, all(a >= b for a, b in zip(rates[-16:], rates[-15:])))' "$work/e.metrics")" 'True True'

# --- bytes sent: one ring all-reduce of 21840 floats and the count of missing gradients; of two ranks each sends every
# chunk once, 4 x 21841 bytes, however many steps are measured -------------------------------------------------------
for steps in 10 40; do
  for launcher in mpi tcp_pair; do
    $launcher 2 "${small[@]}" --no-eval --iterations $steps --algorithm ring --json "$work/r.json"
    expect_ok "$launcher, $steps steps"
    same "$launcher, $steps steps: bytes sent" "$(key "$work/r.json" '["bytes_sent_per_step"]')" 87364
  done
done

# --- signals ---------------------------------------------------------------------------------------------------------
interrupt() { # NAME SIGNAL CODE
  rm -rf "$work/stop" "$work/metrics"
  timeout -k 5 120 "$train" "${small[@]}" --compressor acpsgd:rank=2 --epochs 400 --checkpoint "$work/stop" --log-every 1 \
    --metrics "$work/metrics" >"$work/out" 2>"$work/err" &
  local pid=$!
  for _ in $(seq 300); do
    [ -s "$work/metrics" ] && break
    sleep 0.1
  done
  kill "-$2" "$(pgrep -P $pid)" # the program itself, not timeout, which passes a code of its own
  wait $pid
  same "$1: code" $? "$3"
  run 60 "$train" "${small[@]}" --compressor acpsgd:rank=2 --epochs 1 --checkpoint "$work/stop" --resume
  expect_ok "$1: what it left can be resumed"
}
interrupt SIGTERM TERM 143
interrupt SIGINT INT 130

# Killed while it writes over and over.
job=("${small[@]}" --compressor acpsgd:rank=2 --epochs 2 --checkpoint-every 1)
run 120 "$train" "${job[@]}" --seed 7 --checkpoint "$work/c6" --json "$work/once.json"
expect_ok 'a run that is not killed'
: >"$work/metrics"
timeout -k 5 120 "$train" "${job[@]}" --seed 7 --checkpoint "$work/c5" --log-every 1 --metrics "$work/metrics" \
  >"$work/out" 2>"$work/err" &
killed=$!
for _ in $(seq 2400); do
  [ "$(wc -l <"$work/metrics")" -ge 5 ] && break
  sleep 0.05
done
kill -KILL "$(pgrep -P $killed)" 2>/dev/null # fails if it has ended by itself: the same has to come out
wait $killed 2>/dev/null
run 120 "$train" "${job[@]}" --seed 7 --checkpoint "$work/c5" --resume --json "$work/killed.json"
expect_ok 'killed and resumed'
same 'killed and resumed' "$(key "$work/killed.json" '["parameters_hash"]')" "$(key "$work/once.json" '["parameters_hash"]')"

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
