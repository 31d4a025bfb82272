#!/usr/bin/env bash
# Installs what is missing: Debian packages, and libtorch from its PyPI wheel into .venv. Fast when nothing is.
#   scripts/setup.sh [--lint] [--cuda]
# --lint: clang-format and clang-tidy too. --cuda: the CUDA libraries that libtorch's part for GPUs needs, NCCL among
# them (1.5 GB to load, 3 GB unpacked); the build itself needs nvcc of a CUDA toolkit besides (docs/gpu.md).
# For Debian 12 and Ubuntu 22.04, 24.04, as root or with sudo. A libtorch 2.4 or newer that is there already is used
# with LIBTORCH=/path; nothing is then taken from PyPI.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

packages=(g++ git pkg-config python3-venv meson ninja-build ccache openmpi-bin libopenmpi-dev libcxxopts-dev catch2
  nlohmann-json3-dev libspdlog-dev zlib1g-dev libjpeg-dev libpng-dev)
optional=(dataset-fashion-mnist)
cuda=''
for argument; do
  case "$argument" in
    --lint) packages+=(clang-format clang-tidy) ;;
    --cuda) cuda=1 ;;
    -h | --help) usage "$0" && exit ;;
    *) fail "setup: unknown argument $argument; known: --lint, --cuda" ;;
  esac
done

mkdir -p .cache
exec 9>.cache/setup.lock
flock -n 9 || { say "setup: waiting for another setup of this checkout" && flock 9; }

# --- Debian packages -------------------------------------------------------------------------------------------------

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
may_be_root() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" </dev/null >>.cache/apt.log 2>&1; }
update_lists() {
  local try
  for try in 1 2 3; do
    apt update && return
    [ "$try" = 3 ] || sleep $((try * 5))
  done
  say "setup: apt-get update failed (.cache/apt.log); going on with the old lists"
}

if command -v dpkg-query >/dev/null; then
  missing=() wanted=()
  for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
  if [ ! -f .cache/optional-tried ]; then
    for package in "${optional[@]}"; do installed "$package" || wanted+=("$package"); done
  fi
  if [ ${#missing[@]} -gt 0 ] || { [ ${#wanted[@]} -gt 0 ] && may_be_root; }; then
    may_be_root || fail "setup: these packages are missing, and there is neither root nor sudo to install them. As root:
  apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    say "setup: installing with apt-get:" "${missing[@]}" "${wanted[@]}"
    [ "$(id -u)" = 0 ] || say "setup: sudo may ask for your password"
    as_root true || fail "setup: sudo refused; as root: apt-get install --no-install-recommends ${missing[*]}"
    : >.cache/apt.log
    update_lists
    if [ ${#missing[@]} -gt 0 ]; then
      apt install -y --no-install-recommends "${missing[@]}" || {
        tail -n 5 .cache/apt.log >&2
        fail "setup: apt-get could not install ${missing[*]} (all of its output: .cache/apt.log)"
      }
    fi
    for package in "${wanted[@]}"; do
      apt install -y --no-install-recommends "$package" ||
        say "setup: $package is not to be had here; the built-in digits take its place"
    done
    touch .cache/optional-tried
  fi
else
  say "setup: not a Debian system; it is yours to install what these packages hold: ${packages[*]}"
fi

# --- libtorch --------------------------------------------------------------------------------------------------------

# Its library finds all that it needs; else one line names what it lacks.
check_libtorch() { # folder, advice
  [ -f "$1/lib/libtorch_cpu.so" ] || fail "setup: $1 has no lib/libtorch_cpu.so; $2"
  local lacking
  lacking=$(ldd "$1/lib/libtorch_cpu.so" 2>/dev/null | sed -n 's/^[[:space:]]*\(.*\) => not found.*/\1/p' | sort -u | paste -sd ' ')
  [ -z "$lacking" ] || fail "setup: $1/lib/libtorch_cpu.so needs $lacking, not found here; $2"
}

# The same of its part for GPUs.
check_cuda() { # folder, advice
  [ -f "$1/lib/libtorch_cuda.so" ] || fail "setup: $1 has no lib/libtorch_cuda.so: it is a libtorch without CUDA; $2"
  local lacking
  lacking=$(ldd "$1/lib/libtorch_cuda.so" 2>/dev/null | sed -n 's/^[[:space:]]*\(.*\) => not found.*/\1/p' | sort -u | paste -sd ' ')
  [ -z "$lacking" ] || fail "setup: $1/lib/libtorch_cuda.so needs $lacking, not found here; $2"
}

if [ -n "${LIBTORCH:-}" ]; then
  check_libtorch "$LIBTORCH" "is LIBTORCH the folder of a libtorch or of Python's torch?"
  [ -z "$cuda" ] || check_cuda "$LIBTORCH" "point LIBTORCH at one with CUDA and its libraries, or unset it"
  exit 0
fi

# pip writes RECORD last: a package without one is left over from an interrupted run.
wheels=(torch==2.11.0 'nvidia-cuda-runtime~=13.0' 'nvidia-cuda-cupti~=13.0')
complete() { compgen -G ".venv/lib/python3*/site-packages/$1.dist-info/RECORD" >/dev/null; }
have_libtorch() { complete 'torch-2.11.0*' && complete 'nvidia_cuda_runtime-13.*' && complete 'nvidia_cuda_cupti-13.*'; }
if ! have_libtorch; then
  free=$(df -Pk . | awk 'NR == 2 {printf "%.1f", $4 / 1048576}')
  awk "BEGIN {exit !($free >= 3)}" ||
    fail "setup: libtorch takes 3 GB in $ROOT while it is installed, and $free GB are free; make room, or point LIBTORCH at one that is there"
  say "setup: installing libtorch 2.11.0 into .venv (the CPU part of PyPI's torch, 0.5 GB to load, 1.3 GB unpacked)"
  for package in .venv/lib/python3*/site-packages/{torch,nvidia}*.dist-info; do
    [ -f "$package/RECORD" ] || rm -rf "$package" # pip would take it for installed
  done
  python3 -m venv .venv || fail "setup: python3 -m venv failed; is python3-venv installed for $(command -v python3)?"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --retries 3 "${wheels[@]}" </dev/null ||
    fail "setup: pip could not install ${wheels[*]}. Without a way to PyPI, point LIBTORCH at a libtorch 2.4 or newer; there is no such wheel for Python before 3.10 or after 3.14, nor for every processor ($(uname -m) here)"
fi
for folder in .venv/lib/python3*/site-packages/torch; do
  check_libtorch "$folder" "remove .venv and run scripts/setup.sh again"
done

# --- CUDA's libraries ------------------------------------------------------------------------------------------------

# The wheel itself says which it was built with: «nvidia-nccl-cu13==2.28.9; platform_system == "Linux"».
cuda_wheels() {
  sed -n 's/^Requires-Dist: \(\(cuda-toolkit\|nvidia-[a-z0-9-]*\)[^; ]*\).*/\1/p' .venv/lib/python3*/site-packages/torch-2.11.0*.dist-info/METADATA
}
have_cuda() {
  [ -f .venv/.cuda-libraries ] && [ "$(cat .venv/.cuda-libraries)" = "$(cuda_wheels)" ]
}
if [ -n "$cuda" ] && ! have_cuda; then
  mapfile -t wheels < <(cuda_wheels)
  [ ${#wheels[@]} -gt 0 ] || fail "setup: the torch in .venv names no CUDA libraries; remove .venv and run scripts/setup.sh --cuda again"
  free=$(df -Pk . | awk 'NR == 2 {printf "%.1f", $4 / 1048576}')
  awk "BEGIN {exit !($free >= 6)}" ||
    fail "setup: CUDA's libraries take 6 GB in $ROOT while they are installed, and $free GB are free; make room, or point LIBTORCH at a libtorch that has them"
  say "setup: installing CUDA's libraries into .venv (1.5 GB to load, 3 GB unpacked):" "${wheels[@]}"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-cache-dir --retries 3 "${wheels[@]}" </dev/null \
    >.cache/pip.log 2>&1 || { # it also complains of what torch's Python part lacks, which is not wanted
    tail -n 5 .cache/pip.log >&2
    fail "setup: pip could not install ${wheels[*]}. Without a way to PyPI, point LIBTORCH at a libtorch with CUDA"
  }
  cuda_wheels >.venv/.cuda-libraries # last: an interrupted run leaves none
fi
if [ -n "$cuda" ]; then
  for folder in .venv/lib/python3*/site-packages/torch; do
    check_cuda "$folder" "remove .venv and run scripts/setup.sh --cuda again"
  done
fi
