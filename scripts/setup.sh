#!/usr/bin/env bash
# Installs what is missing: Debian packages, and libtorch from its PyPI wheel into .venv. Fast when nothing is.
#   scripts/setup.sh [--lint]     --lint: clang-format and clang-tidy too
# A libtorch that is there already is used with LIBTORCH=/path.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

packages=(g++ make git pkg-config python3-venv meson ninja-build ccache openmpi-bin libopenmpi-dev libcxxopts-dev catch2
  nlohmann-json3-dev libspdlog-dev zlib1g-dev)
optional=(dataset-fashion-mnist)
case "${1:-}" in
  --lint) packages+=(clang-format clang-tidy) ;;
  "") ;;
  *) fail "setup.sh: unknown argument $1; known: --lint" ;;
esac

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

if command -v dpkg-query >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
  wanted=()
  for package in "${optional[@]}"; do installed "$package" || wanted+=("$package"); done
  if [ ${#missing[@]} -gt 0 ] || { [ ${#wanted[@]} -gt 0 ] && [ ! -f .cache/optional-tried ]; }; then
    say "setup: installing with apt-get: ${missing[*]} ${wanted[*]}"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
      command -v sudo >/dev/null ||
        { [ ${#missing[@]} -eq 0 ] || fail "setup: not root, and no sudo: as root, run: apt-get install ${missing[*]}"; }
      as_root=(sudo)
    fi
    if [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; then
      export DEBIAN_FRONTEND=noninteractive
      "${as_root[@]}" apt-get update -qq || "${as_root[@]}" apt-get update -qq || say "setup: apt-get update failed; going on with the old lists"
      [ ${#missing[@]} -eq 0 ] || "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "setup: apt-get could not install ${missing[*]}"
      for package in "${wanted[@]}"; do
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
          say "setup: $package is not to be had here; the built-in digits take its place"
      done
    fi
    mkdir -p .cache && touch .cache/optional-tried
  fi
else
  say "setup: not a Debian system; install the likes of: ${packages[*]}"
fi

if [ -n "${LIBTORCH:-}" ]; then
  [ -f "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "setup: LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so"
  exit 0
fi

mkdir -p .cache
exec 9>.cache/setup.lock
flock 9 # one installation at a time
if [ -f .venv/complete ]; then exit 0; fi
free=$(df -Pk . | awk 'NR==2 {print int($4 / 1048576)}')
[ "$free" -ge 3 ] || fail "setup: libtorch needs 3 GB in $ROOT; $free GB are free"
say "setup: installing libtorch 2.11.0 (the CPU part of its PyPI wheel, 1.3 GB unpacked) into .venv"
rm -rf .venv # of an interrupted run
python3 -m venv .venv || fail "setup: python3 -m venv failed; install python3-venv"
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps torch==2.11.0 'nvidia-cuda-runtime~=13.0' 'nvidia-cuda-cupti~=13.0' ||
  fail "setup: pip could not install torch==2.11.0 (is PyPI reachable?); or point LIBTORCH at a libtorch 2.4 or newer"
touch .venv/complete
