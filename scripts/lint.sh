#!/usr/bin/env bash
# Format of every file (clang-format), and clang-tidy on the sources that have changed.
#   scripts/lint.sh                  clang-tidy on what differs from origin/main, or in the last commit if nothing does
#   scripts/lint.sh --since COMMIT   on what has changed since
#   scripts/lint.sh --all            on every source (half a minute each)
#   scripts/lint.sh --fix            formats the files first
#   scripts/lint.sh --seconds N      begins no file after N seconds; files that remain count as skipped
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT" || exit 1
fix='' all='' since='' seconds=''
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage "$0" && exit ;;
    --fix) fix=1 && shift ;;
    --all) all=1 && shift ;;
    --since | --seconds) [ $# -ge 2 ] || fail "lint.sh: $1 needs a value" && printf -v "${1#--}" %s "$2" && shift 2 ;;
    *) fail "lint.sh: unknown option $1; known: --fix, --all, --since COMMIT, --seconds N" ;;
  esac
done
scripts/setup.sh --lint || exit 1

passed=0 failed=0 skipped=0
mapfile -t files < <(git ls-files -co --exclude-standard '*.cpp' '*.h')
[ -z "$fix" ] || clang-format -i "${files[@]}"
for file in "${files[@]}"; do
  if clang-format --dry-run -Werror "$file" >/dev/null 2>&1; then
    passed=$((passed + 1))
  else
    say "$file: not formatted; run scripts/lint.sh --fix"
    failed=$((failed + 1))
  fi
done

# Catch2's macros are more than clang-tidy bears.
programs=('*.cpp' ':!tests')
changed() { git diff --name-only --diff-filter=d "$1" -- "${programs[@]}" && git ls-files -o --exclude-standard "${programs[@]}"; }
if [ -n "$all" ]; then
  mapfile -t tidy < <(git ls-files -co --exclude-standard "${programs[@]}")
else
  [ -n "$since" ] || since=$(git merge-base HEAD origin/main 2>/dev/null)
  mapfile -t tidy < <([ -z "$since" ] || changed "$since")
  [ ${#tidy[@]} -gt 0 ] || mapfile -t tidy < <(changed HEAD~1 2>/dev/null)
fi
if [ ${#tidy[@]} -gt 0 ]; then
  scripts/build.sh --configure || exit 1
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # gcc's precompiled header is beside the object; clang takes the header itself.
  check() { # file: leaves ok, findings or nothing (time was up) in its place under $work
    [ -z "$LINT_END" ] || [ "$(date +%s)" -lt "$LINT_END" ] || return 0
    local log=$LINT_WORK/${1//\//,}
    clang-tidy --quiet -p build --extra-arg=-Wno-everything --extra-arg-before="-I$PWD/pch" "$1" >"$log" 2>&1 &&
      ! grep -qE ': (warning|error):' "$log" && echo ok >"$log"
  }
  export -f check
  export LINT_WORK=$work LINT_END=${seconds:+$(($(date +%s) + seconds))}
  # shellcheck disable=SC2016
  printf '%s\0' "${tidy[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'check "$1"' _ {}
  for file in "${tidy[@]}"; do
    log=$work/${file//\//,}
    if [ ! -f "$log" ]; then
      skipped=$((skipped + 1))
    elif [ "$(cat "$log")" = ok ]; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      grep -E ': (warning|error):|^error:' "$log" || tail -n 3 "$log"
    fi
  done
  [ "$skipped" = 0 ] || say "lint: no time for $skipped of ${#tidy[@]} changed sources; scripts/lint.sh ${since:+--since $since} takes them all"
fi
printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
