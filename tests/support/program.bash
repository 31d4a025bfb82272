# Sourced by the tests of a program from outside, which set `program` and `name` (as it calls itself) before.
# shellcheck shell=bash
# Gives `work` (a folder that goes at the end), `code`, `passed`, `failed`, and what follows.
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT ACP_BACKEND OMPI_COMM_WORLD_RANK
passed=0 failed=0
ok() { passed=$((passed + 1)); }
no() { # NAME WHAT
  failed=$((failed + 1))
  echo "FAILED: $1: $2"
  sed 's/^/    out: /' "$work/out" | tail -n 5
  sed 's/^/    err: /' "$work/err" | tail -n 5
}
run() { # ARGUMENTS...: one process
  timeout -k 5 300 "$program" "$@" >"$work/out" 2>"$work/err"
  code=$?
}
well() { if [ "$code" = 0 ]; then ok; else no "$1" "exit code $code"; fi; }
refused() { # NAME TEXT: ended with 2 and one line that has the text
  if [ "$code" != 2 ]; then
    no "$1" "exit code $code instead of 2"
  elif [ "$(wc -l <"$work/err")" != 1 ] || ! grep -q -- "$2" "$work/err"; then
    no "$1" "not one line with \"$2\""
  else
    ok
  fi
}
holds() { # NAME EXPRESSION over `rows`, the objects of $work/rows
  if python3 - "$work/rows" "$2" <<'PY' >"$work/out" 2>"$work/err"; then ok; else no "$1" "does not hold: $2"; fi
import json, math, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
sys.exit(not eval("(" + sys.argv[2] + ")"))
PY
}
describes_itself() { # OPTION: --help names it, docs/options.md has all that --help names; --version
  local option missing=''
  run --help
  if [ "$code" = 0 ] && grep -q -- "$1" "$work/out"; then ok; else no '--help' "exit code $code"; fi
  for option in $(grep -oE -- '--[a-z-]+' "$work/out" | sort -u); do
    grep -q -- "$option\b" docs/options.md || missing="$missing $option"
  done
  if [ -z "$missing" ]; then ok; else no 'docs/options.md' "lacks$missing"; fi
  run --version
  if [ "$code" = 0 ] && grep -qE "^$name [0-9.]+\$" "$work/out"; then ok; else no '--version' "exit code $code"; fi
}
