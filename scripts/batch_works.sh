# Sourced by batch.sh: the workloads by scale, and the grid of each batch.
# shellcheck shell=bash disable=SC2034,SC2054,SC2154
# work NAME sets the variables of perf.sh (dnn, bs, ...) and `more`, options of acp-train, for scale. Scale 2 is as published.
# A set that is not in ACP_DATA gives way to a built-in one.
have() { # PATTERN...: whether one of them is in ACP_DATA
  local pattern
  [ -n "${ACP_DATA:-}" ] || return 1
  for pattern in "$@"; do if compgen -G "$ACP_DATA/$pattern" >/dev/null; then return 0; fi; done
  return 1
}
ptb() { if have 'ptb*' '*/ptb.*'; then printf ptb; else printf markov; fi; }
wikitext() { if have 'wikitext-103*' 'wiki.train.tokens'; then printf wikitext-103; else printf markov; fi; }

work() {
  case $batch/$1/$scale in
    # Random data: step times alone.
    */resnet50/* | */resnet152/* | */bert-base/* | */bert-large/*) timing "$1" ;;
    # The rest learn something. With iterations there is an evaluation at the end and after every --eval-every steps.
    lgreco/resnet18/2 | lgreco/resnet50-imagenet/2 | lgreco/transformer-xl/2) lgreco_preset "$1" ;;
    *) convergence "$1" ;;
  esac
  if [ -n "${iterations_of_all:-}" ]; then iterations=$iterations_of_all epochs='' warmup=1; fi
}

timing() {
  dnn=$1 measures=1
  case $1/$scale in
    resnet50/0) dnn=resnet50:image=64 bs=2 ;;
    resnet50/1) dnn=resnet50:image=96 bs=4 ;;
    resnet50/2) bs=64 ;;
    resnet152/0) dnn=resnet152:image=64 bs=1 ;;
    resnet152/1) dnn=resnet152:image=96 bs=2 ;;
    resnet152/2) bs=32 ;;
    bert-base/0) bs=1 senlen=32 ;;
    bert-base/1) bs=2 senlen=64 ;;
    bert-base/2) bs=32 senlen=64 ;;
    bert-large/0) bs=1 senlen=32 ;;
    bert-large/1) bs=1 senlen=64 ;;
    bert-large/2) bs=8 senlen=64 ;;
  esac
  case $scale in
    0) iterations=4 warmup=2 ;;
    1) iterations=20 warmup=4 ;;
    2) iterations=50 warmup=10 ;;
  esac
}

# choose_data WORK: data, and in `from` the options that name its set. Synthetic where nothing else is built in.
choose_data() {
  local words=''
  data=${ACP_DATA:-}
  case $1 in
    resnet50-imagenet) if have image-folder imagenet ImageNet ILSVRC2012 train; then from=(--data-set image-folder); else data=synthetic; fi ;;
    vgg*) if have cifar100 cifar-100 CIFAR100 cifar-100-binary train.bin; then from=(--data-set cifar100); else data=synthetic; fi ;;
    resnet*) if have cifar10 cifar-10 CIFAR10 cifar-10-batches-bin data_batch_1.bin; then from=(--data-set cifar10); else data=synthetic; fi ;;
    lstm | ptb) words=$(ptb) ;;
    transformer*) if [ "$scale" = 2 ]; then words=$(wikitext); else words=$(ptb); fi ;;
    ncf) if ! have 'ml-*'; then data=synthetic; elif [ "$scale" = 2 ]; then from=(--data-set ml-20m); fi ;;
  esac
  if [ -n "$words" ]; then from=(--data-set "$words"); fi
  if [ "$words" = markov ]; then data=markov; fi
}

# The recipes of the presets, whose batch sizes are for 8 ranks: the same total.
lgreco_preset() {
  local from=()
  measures=0 more=(--log-every 1)
  choose_data "$1"
  case $1 in
    resnet18) preset=lgreco-resnet18-cifar10 bs=$((128 / ranks)) ;;
    resnet50-imagenet) preset=lgreco-resnet50-imagenet bs=$((2048 / ranks)) ;;
    transformer-xl) preset=lgreco-transformer-xl-wikitext103 bs=$((256 / ranks)) && more+=(--eval-every 1000) ;;
  esac
}

convergence() {
  local from=()
  measures=0
  choose_data "$1"
  case $1/$scale in
    mnist/*)
      dnn=mnist bs=64 epochs=$((scale == 0 ? 2 : 10))
      have 'mnist*' || data=digits
      ;;
    resnet9/0) dnn=resnet9:width=0.25 bs=64 iterations=120 more=("${from[@]}" --lr-schedule piecewise:at=0/0.25/1,value=0/0.2/0 --eval-every 40) ;;
    resnet9/1) dnn=resnet9 bs=64 epochs=8 more=("${from[@]}" --lr-schedule piecewise:at=0/2/8,value=0/0.2/0) ;;
    resnet9/2) dnn=resnet9 bs=256 epochs=30 more=("${from[@]}" --lr-schedule piecewise:at=0/5/30,value=0/0.4/0) ;;
    resnet18/0) dnn=resnet18-cifar:width=0.25 bs=32 iterations=100 more=("${from[@]}" --lr 0.05 --eval-every 25) ;;
    resnet18/1) dnn=resnet18-cifar:width=0.5 bs=32 epochs=8 more=("${from[@]}" --lr 0.05 --lr-schedule cosine) ;;
    resnet18/2) dnn=resnet18-cifar bs=16 epochs=200 more=("${from[@]}" --lr 0.1 --weight-decay 1e-4 --lr-schedule milestones:at=60/120/160,gamma=0.2) ;;
    resnet101/0) dnn=resnet101:image=32,classes=10,width=0.25 bs=16 iterations=60 more=("${from[@]}" --lr 0.05 --eval-every 20) ;;
    resnet101/1) dnn=resnet101:image=32,classes=10 bs=16 epochs=3 more=("${from[@]}" --lr 0.05) ;;
    resnet101/2) dnn=resnet101:image=32,classes=10 bs=32 epochs=300 more=("${from[@]}" --lr 0.1 --weight-decay 5e-4 --lr-schedule milestones:at=100/150,gamma=0.1) ;;
    vgg16/0) dnn=vgg16-bn-cifar:width=0.25 bs=32 iterations=100 more=("${from[@]}" --lr 0.05 --eval-every 25) ;;
    vgg16/1) dnn=vgg16-bn-cifar:width=0.5 bs=32 epochs=10 more=("${from[@]}" --lr 0.05) ;;
    vgg16/2) dnn=vgg16-bn-cifar bs=32 epochs=300 more=("${from[@]}" --lr 0.01 --weight-decay 5e-4 --lr-schedule milestones:at=60/120/160,gamma=0.2) ;;
    lstm/0) dnn=lstm-lm:layers=2,hidden=64,dropout=0 bs=20 iterations=160 more=("${from[@]}" --eval-every 40) ;;
    lstm/1) dnn=lstm-lm:layers=2,hidden=200,dropout=0.2 bs=20 epochs=4 more=("${from[@]}" --eval-every 200) ;;
    lstm/2) dnn=lstm-lm:layers=2,hidden=1500,dropout=0.65 bs=32 epochs=50 more=("${from[@]}" --clip 0.25 --lr 20 --lr-schedule milestones:at=20/32/40,gamma=0.1) ;;
    # The hybrids' network, clipped before compression.
    ptb/0) dnn=lstm-lm:layers=2,hidden=64,dropout=0 bs=20 iterations=160 more=("${from[@]}" --eval-every 40) ;;
    ptb/1) dnn=lstm-lm:layers=2,hidden=200,dropout=0.2 bs=20 epochs=4 more=("${from[@]}" --eval-every 200) ;;
    ptb/2) dnn=lstm-lm:layers=2,embedding=700,hidden=700,dropout=0.65 bs=$((128 / ranks)) epochs=70 more=("${from[@]}") ;;
    transformer-xl/0) dnn=transformer-xl:layers=2,hidden=64,heads=2,inner=128 bs=8 senlen=32 iterations=100 more=("${from[@]}" --eval-every 25) ;;
    transformer-xl/1) dnn=transformer-xl:layers=4,hidden=128,heads=4,inner=256 bs=8 senlen=64 iterations=2000 more=("${from[@]}" --eval-every 250) ;;
    transformer-xl/2) dnn=transformer-xl bs=$((512 / ranks)) senlen=192 iterations=4500 more=("${from[@]}" --optimizer lamb --lr 0.01 --lr-warmup 1000 --lr-schedule cosine --eval-every 500) ;;
    resnet50-imagenet/2) dnn=resnet50 bs=$((1024 / ranks)) epochs=90 more=("${from[@]}" --lr 0.1 --weight-decay 1e-4 --lr-schedule step:every=30,gamma=0.1) ;;
    ncf/0) dnn=ncf bs=256 iterations=300 ;;
    ncf/1) dnn=ncf bs=256 epochs=5 ;;
    ncf/2) dnn=ncf:factors=64,mlp=256/256/128/64,dropout=0.5 bs=$((1048576 / ranks)) epochs=30 more=("${from[@]}" --optimizer adam:beta1=0.25,beta2=0.5 --lr 0.0045) ;;
    *) printf 'batch.sh: no work %s at scale %s\n' "$1" "$scale" >&2 && exit 2 ;;
  esac
  more+=(--log-every 1)
}

# Policies count steps; a short run has short periods.
steps_of() { case $scale in 0) printf %s "$1" ;; 1) printf %s "$2" ;; 2) printf %s "$3" ;; esac }

batch_acp() {
  local method all=(resnet50 resnet152 bert-base) sweep=bert-base ranks_of_p='32 64'
  if [ "$scale" != 0 ]; then all+=(bert-large) ranks_of_p='32 64 128 256'; fi
  if [ "$scale" = 2 ]; then sweep=bert-large; fi
  if [ -n "${works:-}" ]; then read -ra all <<<"$works" && sweep=${all[0]}; fi
  local first=${all[0]} name value rate
  if part times; then
    for name in "${all[@]}"; do
      for method in ssgd powersgd acpsgd topk signsgd; do
        case $method in topk) opt=topk:ratio=0.001 ;; *) opt=$method ;; esac
        point "$name" $method '' opt=$opt
      done
    done
  fi
  if part fusion; then
    for method in ssgd powersgd acpsgd; do
      point "$first" $method variant=plain opt=$method threshold=0 overlap=0
      point "$first" $method variant=overlap opt=$method threshold=0
      point "$first" $method variant=fusion opt=$method overlap=0
      point "$first" $method variant=both opt=$method
    done
  fi
  if part threshold; then
    for value in $(steps_of '0 5 25 100' '0 25 50 100 500' '0 25 50 100 500 1000 1500'); do
      for method in ssgd powersgd acpsgd; do
        [ "$scale" != 0 ] || [ $method != powersgd ] || continue
        point "$sweep" $method threshold="$value" opt=$method threshold="$value"
      done
    done
  fi
  if part rank; then
    for value in $ranks_of_p; do
      for method in powersgd acpsgd; do point "$sweep" $method rank="$value" opt=$method rank="$value"; done
    done
  fi
  if part nworkers; then
    for value in $(steps_of '1 2' '1 2 4' '4 8 16 32 64'); do
      for method in ssgd acpsgd; do point "$first" $method nworkers="$value" opt=$method nworkers="$value"; done
    done
  fi
  if part bs && [ "$scale" = 2 ]; then
    for value in 8 16 24 32; do
      for method in ssgd powersgd acpsgd; do point resnet152 $method bs=$value opt=$method bs=$value; done
    done
  fi
}

# Without error memory, as published.
# recorded POINT KEY: a figure of that point's newest run; nothing if it has none
recorded() {
  grep -F "\"name\":\"$1\"" "$out/runs.json" 2>/dev/null | grep -oP "\"$2\":\K[0-9.e+-]+" | tail -n 1 || true
}

# leave_out WORK METHOD WHAT FROM: a point, if it is wanted, that needs what the method FROM has not told
leave_out() {
  if wanted "$1" "${works:-}" && wanted "$2" "${methods:-}"; then
    failed=$((failed + 1))
    say "batch.sh: $1/$2 needs $3, which $1/$4 tells: that point is missing in \
$out/runs.json; it has failed, or $4 has to be among methods; the rest goes on" >&2
  fi
}

# Uniform top-k keeps what the layer-size policy has sent on average.
batch_legacy() {
  local name percent
  for name in $(steps_of "${works:-resnet9 lstm}" "${works:-resnet9 lstm transformer-xl ncf}" "${works:-resnet50-imagenet transformer-xl ncf resnet9}"); do
    point "$name" ssgd '' opt=ssgd
    point "$name" layer-size '' opt=topk memory=none policy=layer-size:group_splits=10000,group_compressions=1/0.1
    percent=$(recorded "$name/layer-size" communicated_percent)
    if [ -z "$percent" ] && [ "${dry:-0}" != 0 ]; then percent=0.1; fi # a run of its own knows it
    if [ -n "$percent" ]; then
      point "$name" uniform-equal '' opt=topk:ratio="$(awk -v p="$percent" 'BEGIN { printf "%.3g", p / 100 }')" memory=none
    else
      leave_out "$name" uniform-equal 'the percentage sent' layer-size
    fi
    known_methods[uniform-equal]=1
    point "$name" epoch '' opt=topk memory=none policy=epoch:clock=step,group_compressions=0.2/0.05
    point "$name" size-epoch '' opt=topk memory=none "policy=size-epoch:clock=step,group_splits=10000,group_compressions=2/0.2;1/0.05"
  done
}

# Accordion takes everything high after a fall of the rate: where the schedule falls in every step, that would be always.
rate_rule() { # WORK
  case $1/$scale in resnet18/1 | resnet9/* | mnist/* | transformer-xl/*) printf ,lr_rule=off ;; esac
}

low_rank_methods() { # WORK
  local start interval rank=4 range='' dense='' high=8 low=2 alone=high=8,low=2
  start=$(steps_of 20 100 1000) interval=$(steps_of 30 100 1000)
  case $batch/$1/$scale in
    lgreco/resnet18/2) interval=390 ;;
    lgreco/resnet50-imagenet/2) start=5000 interval=1250 ;;
    lgreco/transformer-xl/2) rank=32 range=,beta=4,gamma=0.25 high=64 low=16 alone=high=48,low=20 ;;
    */transformer-xl/2) rank=32 high=64 low=16 alone=high=64,low=16 ;;
  esac
  if [ "$batch/$scale" = lgreco/2 ]; then dense=,start=$start alone+=,form=hook; else alone+=$(rate_rule "$1"); fi
  local lgreco=lgreco:start=$start,interval=$interval,window=10$range
  local accordion=accordion:high=$high,low=$low # L-GreCo decides when
  point "$1" powersgd '' opt="powersgd:rank=$rank$dense" policy=uniform
  point "$1" acpsgd '' opt="acpsgd:rank=$rank$dense" policy=uniform
  point "$1" powersgd+lgreco '' opt="powersgd:rank=$rank$dense" policy="$lgreco"
  point "$1" acpsgd+lgreco '' opt="acpsgd:rank=$rank$dense" policy="$lgreco"
  point "$1" powersgd+accordion '' opt="powersgd:rank=$rank$dense" policy="accordion:$alone,period=$interval,start=$start"
  point "$1" powersgd+lgreco+accordion '' opt="powersgd:rank=$rank$dense" policy="$lgreco+$accordion"
}

batch_lgreco() {
  local name
  for name in $(steps_of "${works:-resnet18 lstm}" "${works:-resnet18 lstm transformer-xl}" "${works:-resnet18 transformer-xl resnet50-imagenet}"); do
    point "$name" ssgd '' opt=ssgd policy=uniform # also where a preset has another
    low_rank_methods "$name"
  done
}

batch_gravac() {
  local name window interval
  window=$(steps_of 5 25 25) interval=$(steps_of 15 100 2000)
  for name in $(steps_of "${works:-lstm vgg16}" "${works:-lstm resnet18 vgg16}" "${works:-resnet101 vgg16 lstm}"); do
    point "$name" ssgd '' opt=ssgd
    point "$name" static-10 '' opt=topk:ratio=0.1
    point "$name" static-100 '' opt=topk:ratio=0.01
    point "$name" accordion '' opt=topk policy=accordion:high=0.1,low=0.01,period="$interval$(rate_rule "$name")"
    point "$name" gravac '' opt=topk policy=gravac:window="$window",interval="$interval",theta_max=1000
    [ "$scale" != 0 ] || continue
    low_rank_methods "$name"
  done
}

batch_hybrids() {
  local compressor
  local clip=(--clip 0 --clip-local 0.25) # before compression alone: the model's own clips what was reduced
  point ptb ssgd '' opt=ssgd -- "${clip[@]}"
  for compressor in topk:ratio=0.001 topk:ratio=0.001+efsignsgd topk:ratio=0.001+terngrad adacomp adacomp+efsignsgd adacomp+terngrad \
    efsignsgd terngrad; do
    point ptb "${compressor/:ratio=0.001/}" '' opt=$compressor -- "${clip[@]}"
  done
}

batch_granularity() {
  local name compressor how
  for name in $(steps_of "${works:-mnist resnet9}" "${works:-mnist resnet9 resnet18}" "${works:-resnet9 resnet18}"); do
    point "$name" ssgd '' opt=ssgd
    for compressor in topk:ratio=0.01 topk:ratio=0.001 terngrad; do
      for how in layer bucket model; do
        point "$name" "${compressor/:ratio=/-}" "granularity=$how" opt=$compressor threshold=1 memory=none -- --granularity $how
      done
    done
  done
}

batch_threshold() {
  local name size part
  for name in $(steps_of "${works:-mnist resnet9}" "${works:-mnist resnet9 resnet18}" "${works:-resnet9 resnet18 ncf}"); do
    point "$name" ssgd '' opt=ssgd
    # The budget is of a whole step: the same part of all elements as top-k's.
    size=$(recorded "$name/ssgd" parameters)
    if [ -z "$size" ] && [ "${dry:-0}" != 0 ]; then size=100000; fi # a run of its own knows it
    [ -n "$size" ] || leave_out "$name" threshold 'the number of parameters' ssgd
    for part in 0.01 0.001; do
      [ -z "$size" ] || point "$name" threshold "ratio=$part" \
        "opt=threshold:form=budget,budget=$(awk "BEGIN {printf \"%d\", $size * $part}")" -- --compression-error
      point "$name" topk "ratio=$part" opt=topk:ratio=$part -- --compression-error
      point "$name" globaltopk "ratio=$part" opt=globaltopk:ratio=$part -- --compression-error
    done
  done
}
