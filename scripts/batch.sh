#!/usr/bin/env bash
# Grids of the published comparisons: runs each point by perf.sh, then draws one CSV, plots and a page that puts the
# published figures beside ours.
#   scripts/batch.sh              lists the batches and their times, then runs `acp` at the smallest scale
#   scripts/batch.sh --list       only lists
#   scripts/batch.sh NAME         acp, legacy, lgreco, gravac, hybrids, granularity or threshold
# Variables: scale=0 (minutes on two cores), 1 (hours on a few cores) or 2 (as published: the hosts of envs.conf, the
# published data); nworkers; link=RATE (100mbit, ...) or link=auto (so that S-SGD takes 5 times the computing alone): hosts
# emulated by cluster.sh, as root; works, methods, parts: only those; out=FOLDER (results/NAME-SCALE-RANKS[-LINK]); dry=1
# prints the commands. A batch that was interrupted goes on where it was; points that are done are not run again (fresh=1:
# they are).
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source=scripts/batch_works.sh
. "$ROOT/scripts/batch_works.sh"
scale=${scale:-0}
case "$scale" in 0 | 1 | 2) ;; *) printf 'batch.sh: scale=%s: 0, 1 or 2\n' "$scale" >&2 && exit 2 ;; esac

list() {
  cat <<'L'
batch         scale=0   scale=1   what is compared                                     paper
acp           5 min     2 h        step times: S-SGD, Power-SGD, ACP-SGD, top-k, signs; Zhang et al., ICDCS 2023
                                  with and without fusion and overlap; sweeps
legacy        6 min     3 h       uniform top-k, by layer size, by epoch, by both      LEGACY, ICLR 2026
lgreco        7 min     3 h       uniform low rank, L-GreCo, Accordion, both           Markov et al., MLSys 2024
gravac        9 min     6 h       static factors, Accordion, GraVAC: time to quality   Tyagi, Swany, CLOUD 2023
hybrids       6 min     3 h       sparsifiers, quantisers and both on PTB              GradComp
granularity   5 min     2 h       layer, bucket, model                                 Dutta et al., AAAI 2020
threshold     4 min     2 h       hard threshold against top-k: compression error      Sahu et al., NeurIPS 2021
Times on two cores. scale=2 is the published size: hosts in envs.conf, data sets in ACP_DATA.
L
}

case "${1:-}" in
  -h | --help) usage "$0" && exit ;;
  --list) list && exit ;;
  '') list && say "" && say "running acp at scale=$scale" && batch=acp ;;
  acp | legacy | lgreco | gravac | hybrids | granularity | threshold) batch=$1 ;;
  *) printf 'batch.sh: no batch "%s"; known: acp, legacy, lgreco, gravac, hybrids, granularity, threshold\n' "$1" >&2 && exit 2 ;;
esac

if [ "$scale" = 2 ]; then ranks=${nworkers:-32}; elif [ "$scale" = 1 ]; then ranks=${nworkers:-4}; else ranks=${nworkers:-2}; fi
batch_ranks=$ranks # a point's may be fewer
out=${out:-$ROOT/results/$batch-$scale-$ranks${link:+-$link}}
if [ "${dry:-0}" = 0 ]; then
  mkdir -p "$out/metrics"
  out=$(cd "$out" && pwd)
  [ "${fresh:-0}" = 0 ] || rm -f "$out"/runs.json "$out"/metrics/*
  touch "$out/runs.json"
  # Points that are there already stand under this run's title, so they have to be of the same settings.
  settings="batch=$batch scale=$scale nworkers=$ranks link=${link:-}${iterations_of_all:+ iterations_of_all=$iterations_of_all}"
  before=$(cat "$out/settings" 2>/dev/null || printf 'unknown settings')
  if [ -s "$out/runs.json" ] && [ "$before" != "$settings" ]; then
    printf 'batch.sh: %s has results of %s; this is %s: take another out=FOLDER, or fresh=1 to replace them\n' "$out" "$before" "$settings" >&2
    exit 2
  fi
  printf '%s\n' "$settings" >"$out/settings"
fi
failed=0 begun=$SECONDS
if [ "$scale" != 2 ]; then export hosts=${hosts:-localhost:$((ranks > 8 ? ranks : 8))}; fi

declare -A known_methods=() known_parts=()
# known VARIABLE NAMES...: every value of the variable is one of the names
known() {
  local value
  for value in ${!1:-}; do
    wanted "$value" "${*:2}" || { printf 'batch.sh: %s=%s: %s has %s\n' "$1" "$value" "$batch" "$(sort_words "${@:2}")" >&2 && exit 2; }
  done
}
sort_words() { printf '%s\n' "$@" | sort | paste -sd ' '; }

wanted() { # VALUE LIST: whether the list (all if empty) has it
  [ -z "$2" ] || [[ " $2 " == *" $1 "* ]]
}

# point WORK METHOD VARIANT opt=... [variable=value...] [-- options of acp-train]: one run, called WORK/METHOD[/VARIANT]
point() {
  local work_name=$1 method=$2 label=$1/$2${3:+/$3} file
  shift 3
  known_methods[$method]=1
  wanted "$work_name" "${works:-}" || return 0
  wanted "$method" "${methods:-}" || return 0
  # A dry run shows every point.
  if [ "${dry:-0}" = 0 ] && grep -qF "\"name\":\"$label\"" "$out/runs.json"; then return 0; fi
  # shellcheck disable=SC2034 # read by name
  local dnn='' bs='' senlen='' iterations='' warmup='' epochs='' threshold='' overlap='' memory='' policy='' data='' rank='' opt='' measures='' preset=''
  local more=() args=()
  work "$work_name"
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    if [[ $1 == nworkers=* ]]; then local ranks=${1#*=}; else printf -v "${1%%=*}" %s "${1#*=}"; fi
    shift
  done
  [ $# = 0 ] || shift
  file=$out/metrics/${label//[^A-Za-z0-9=.-]/_}.json
  [ "${dry:-0}" != 0 ] || rm -f "$file" # of a run that was interrupted
  for variable in measures preset dnn bs senlen iterations warmup epochs threshold overlap memory policy data rank opt; do
    [ -z "${!variable}" ] || args+=("$variable=${!variable}")
  done
  [ -z "${link:-}" ] || choose_link "$work_name" "${args[@]}"
  if ! env nworkers="$ranks" json="$out/runs.json" metrics="$file" name="$label" project="$batch" dry="${dry:-0}" "${args[@]}" \
    "$ROOT/scripts/perf.sh" "${more[@]}" "$@"; then
    failed=$((failed + 1))
    say "batch.sh: $label failed; the rest goes on"
  fi
}

# --- links of an emulated cluster ------------------------------------------------------------------------------------
cluster=$ROOT/scripts/cluster.sh prefix=batch
set_up_links() {
  [ "${dry:-0}" = 0 ] || return 0
  "$cluster" --prefix "$prefix" up "$ranks" 1gbit >/dev/null || fail "batch.sh: link=$link needs the emulated cluster"
  trap '"$cluster" --prefix "$prefix" down >/dev/null' EXIT
  hosts=$(seq -f "$prefix%g" -s ' ' 0 $((ranks - 1)))
  export hosts
}
declare -A links=()
# The link on which the dense gradients of this work take 5 times as long as its computing on busy cores.
choose_link() { # WORK perf.sh's variables...
  [ "${dry:-0}" = 0 ] || return 0
  local rate=$link
  if [ "$link" = auto ]; then
    if [ -z "${links[$1]:-}" ]; then
      local probe
      probe=$(mktemp)
      env "${@:2}" nworkers="$batch_ranks" opt=ssgd data=synthetic epochs='' iterations=4 warmup=2 policy=uniform memory='' json="$probe" \
        hosts="localhost:$batch_ranks" "$ROOT/scripts/perf.sh" --no-eval --lr-schedule constant >/dev/null || fail "batch.sh: the trial run of $1 failed"
      links[$1]=$("${PY:-python3}" -c '
import json, sys
run = json.loads(open(sys.argv[1]).readlines()[-1])
sent, seconds = run["bytes_sent_per_step"], 5e-3 * run["step_ms"]["compute"]
if not sent:
    sys.exit("batch.sh: link=auto: one rank sends nothing; set nworkers to 2 or more")
print("%dkbit" % max(1, round(8 * sent / seconds / 1e3)))' "$probe") || exit 2
      rm -f "$probe"
      say "$1: links of ${links[$1]}"
    fi
    rate=${links[$1]}
  fi
  "$cluster" --prefix "$prefix" rate "$rate"
}

[ -z "${link:-}" ] || set_up_links
part() { known_parts[$1]=1 && wanted "$1" "${parts:-}"; }
"batch_$batch"
known methods "${!known_methods[@]}"
[ -z "${parts:-}" ] || [ ${#known_parts[@]} = 0 ] || known parts "${!known_parts[@]}"
[ -z "${link:-}" ] || [ "${dry:-0}" != 0 ] || { "$cluster" --prefix "$prefix" down >/dev/null && trap - EXIT; }

[ "${dry:-0}" = 0 ] || exit 0
[ -s "$out/runs.json" ] || fail "batch.sh: none of the points has a result in $out/runs.json"
"${PY:-python3}" "$ROOT/scripts/plot.py" --batch "$batch" --title "$batch, scale $scale, $ranks ranks${link:+, links of $link}" \
  --metrics "$out/metrics" --out "$out" "$out/runs.json"
say "batch.sh: $batch took $((SECONDS - begun)) s; $out/index.html"
[ "$failed" = 0 ] || fail "batch.sh: $failed of its points failed"
