# Sourced by the other scripts: where things are, and what mpirun and ccache need.
# shellcheck shell=bash disable=SC2034
# Sets ROOT and MPIRUN, exports ACP_DATA and ACP_GOLDEN where the folders beside the checkout are there.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Plain `mpirun -np 2` on 2 cores pins each rank, with all its threads, to one core.
MPIRUN=(mpirun --bind-to none --oversubscribe)
if [ "$(id -u)" = 0 ]; then # containers: Open MPI wants to be told
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# ccache takes objects that use a precompiled header only if told that the header's date and macros do not matter
# (its content does), and finds those of another checkout only if paths in the tree count as relative.
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros,include_file_mtime,include_file_ctime}
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$ROOT}

if [ -z "${ACP_DATA:-}" ] && [ -d "$ROOT/../shared/data" ]; then
  ACP_DATA=$(cd "$ROOT/../shared/data" && pwd)
  export ACP_DATA
fi
if [ -z "${ACP_GOLDEN:-}" ] && [ -d "$ROOT/../shared/golden" ]; then
  ACP_GOLDEN=$(cd "$ROOT/../shared/golden" && pwd)
  export ACP_GOLDEN
fi

say() { printf '%s\n' "$*"; }
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}
# usage SCRIPT: the comment at the top of a script is its help.
usage() { sed -n '2,/^[^#]/{/^# \{0,1\}/s///p}' "$1"; }
