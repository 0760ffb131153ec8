#!/usr/bin/env bash
# The README's line that builds creel needs neither Ninja nor Catch2: configures with it where there
# is neither. Usage: readme.sh SOURCE_DIR COMPILER
set -euo pipefail
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

line=$(grep '^cmake --preset ' README.md)
read -ra configure <<<"${line%%&&*}"
[[ $line == *'&& cmake --build '*'&& cmake --install '* ]]

unset CMAKE_GENERATOR
"${configure[@]}" -B "$work/build" -DCMAKE_CXX_COMPILER="$2" -DCMAKE_MAKE_PROGRAM="$(command -v make)" \
    -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON
grep -q '^CMAKE_GENERATOR:INTERNAL=Unix Makefiles' "$work/build/CMakeCache.txt"
# It builds the libraries and creelctl, and nothing else.
make -C "$work/build" -n all | grep -o 'Built target [a-z_]*' | sort | tr '\n' ' ' |
    grep -x 'Built target creel_fibers Built target creel_io Built target creel_sync Built target creelctl '
