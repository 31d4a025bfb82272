#!/usr/bin/env bash
# The thread sanitizer reports planted races in a hook and of an early ready(), and nothing without them.
# BUILD names a build folder with -Db_sanitize=thread; scripts/test.sh --sanitize thread calls this.
set -u
program=${BUILD:-build-tsan}/tests/planted
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
try() { # scenario, reports expected
  timeout 120 "$program" "$1" >"$log" 2>&1
  code=$? found=$(grep -c 'WARNING: ThreadSanitizer: data race' "$log")
  if { [ "$2" = 0 ] && [ "$code" = 0 ]; } || { [ "$2" = some ] && [ "$code" = 66 ] && [ "$found" -gt 0 ]; }; then
    passed=$((passed + 1)) && echo "ok      $1"
  else
    failed=$((failed + 1)) && echo "FAILED  $1: exit code $code, $found data races reported" && tail -n 40 "$log"
  fi
}
try clean 0
try hook some
try early-ready some
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
