#!/usr/bin/env bash
# Format of every file (clang-format), and clang-tidy on the sources changed since a commit.
#   scripts/lint.sh [--fix] [--all] [--since COMMIT]     --all: clang-tidy on every source (half a minute each)
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT" || exit 1
fix= all= since=
while [ $# -gt 0 ]; do
  case "$1" in
    --fix) fix=1 && shift ;;
    --all) all=1 && shift ;;
    --since) since=${2:?--since needs a commit} && shift 2 ;;
    *) fail "lint.sh: unknown option $1; known: --fix, --all, --since COMMIT" ;;
  esac
done
scripts/setup.sh --lint || exit 1
passed=0 failed=0
mapfile -t files < <(git ls-files '*.cpp' '*.h')
if [ -n "$fix" ]; then clang-format -i "${files[@]}"; fi
for file in "${files[@]}"; do
  if clang-format --dry-run -Werror "$file" >/dev/null 2>&1; then
    passed=$((passed + 1))
  else
    say "$file: not formatted; run scripts/lint.sh --fix"
    failed=$((failed + 1))
  fi
done
tidy=()
if [ -n "$all" ]; then
  mapfile -t tidy < <(git ls-files 'acp/*.cpp' 'comm/*.cpp' 'compressors/*.cpp' 'fusion/*.cpp' 'models/*.cpp' 'benchmarks/*.cpp')
elif [ -n "$since" ]; then
  mapfile -t tidy < <(git diff --name-only --diff-filter=d "$since" -- '*.cpp' | grep -v '^tests/')
fi
if [ ${#tidy[@]} -gt 0 ]; then
  [ -f build/compile_commands.json ] || scripts/build.sh || exit 1
  for file in "${tidy[@]}"; do
    # gcc's precompiled headers and warnings mean nothing to clang.
    if clang-tidy --quiet -p build --extra-arg=-Wno-everything "$file" 2>/dev/null | grep -E 'warning:|error:'; then
      failed=$((failed + 1))
    else
      passed=$((passed + 1))
    fi
  done
fi
printf '%s passed, %s failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" = 0 ]
