#!/bin/sh
# What meson asks about the tree: the .cpp files of folders, whether one file exists, where libtorch is.
# Paths are relative to the folder whose meson.build asks (one level deep at most); no_X.cpp is left out.
cd "$(dirname "$0")/.." || exit 1
up=${MESON_SUBDIR:+../}
case "$1" in
  --libtorch)
    if [ -n "$LIBTORCH" ]; then echo "$LIBTORCH"; exit; fi
    for d in .venv/lib/python3*/site-packages/torch; do [ -d "$d" ] && echo "$PWD/$d"; done | tail -n 1 ;;
  --torch-version)
    cat "$2/include/torch/headeronly/version.h" "$2/include/torch/csrc/api/include/torch/version.h" 2>/dev/null |
      sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\|PATCH\) \([0-9]*\).*/\2/p' | head -n 3 | paste -sd . ;;
  --only) [ -f "$2" ] && echo "$up$2" ;;
  --headers) # FOLDER ROOTS...: the headers of a folder that the roots include, themselves or through others
    folder=$2 && shift 2
    reached=' '
    while [ $# -gt 0 ]; do
      file=$1 && shift
      case "$reached" in *" $file "*) continue ;; esac
      reached="$reached$file "
      # shellcheck disable=SC2046
      set -- "$@" $(sed -n 's/^#include "\(.*\)".*/\1/p' "$file")
    done
    for file in $reached; do case "$file" in "$folder"/*/*) ;; "$folder"/*) echo "$up$file" ;; esac; done ;;
  *)
    for folder; do
      for file in "$folder"/*.cpp; do
        case "$file" in */no_*.cpp | */'*.cpp') ;; *) echo "$up$file" ;; esac
      done
    done ;;
esac
exit 0
