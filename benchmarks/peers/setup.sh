#!/usr/bin/env bash
# Makes the Python side's virtual environment, .venv-peers in the top folder: PyTorch of libtorch's version, and NumPy.
#   benchmarks/peers/setup.sh
# Python's torch loads CUDA's libraries even where there is no GPU, so this takes about 3 GB to load and 7 GB on disk.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/env.sh"
cd "$ROOT"
case "${1:-}" in
  -h | --help) usage "$0" && exit ;;
  "") ;;
  *) fail "peers/setup.sh: unknown argument $1; it takes none" ;;
esac
wanted=benchmarks/peers/requirements.txt
stamp=.venv-peers/requirements.txt
if cmp -s "$wanted" "$stamp"; then exit 0; fi
free=$(df -Pk . | awk 'NR == 2 {printf "%d", $4 / 1048576}')
[ "$free" -ge 10 ] || fail "peers/setup.sh: 10 GB are needed in $ROOT while PyTorch is installed, and $free GB are free"
say "peers/setup.sh: installing $(paste -sd ' ' "$wanted") into .venv-peers (about 3 GB to load)"
python3 -m venv .venv-peers || fail "peers/setup.sh: python3 -m venv failed; is python3-venv installed?"
.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-cache-dir --retries 3 -r "$wanted" </dev/null ||
  fail "peers/setup.sh: pip could not install $(paste -sd ' ' "$wanted")"
cp "$wanted" "$stamp" # last: an interrupted run is done again
