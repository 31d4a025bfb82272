#!/usr/bin/env bash
# acp::init() returns whether or not the compiler elides the move of what it returns.
# Usage: tests/faults/context_moved.sh [BUILD]   (default: $BUILD, else build)
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-${BUILD:-build}}
if said=$(timeout -k 5 120 "$build/tests/context-moved" 2>&1) && [ "$said" = current ]; then
  echo "1 passed, 0 failed, 0 skipped"
else
  echo "FAILED: a moved context: code $?, said \"$said\""
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi
