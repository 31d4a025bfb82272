# Sourced by the other scripts: where things are, and what mpirun needs. Sets ROOT, MPIRUN, ACP_DATA, ACP_GOLDEN.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Plain `mpirun -np 2` on 2 cores pins each rank, with all its threads, to one core.
MPIRUN=(mpirun --bind-to none --oversubscribe)
if [ "$(id -u)" = 0 ]; then # containers: Open MPI wants to be told
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# Precompiled headers are cached only if their dates may differ.
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros,include_file_mtime,include_file_ctime}

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
