#!/usr/bin/env bash
# Installs a build of creel into a temporary directory, then builds and runs this outside project
# with nothing but that installation. Usage: run.sh BUILD_DIR [COMPILER]
set -euo pipefail
build=$1
compiler=${2:-c++}
source=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"
# A copy, so that nothing of the tree can be found by a relative path.
cp "$source/CMakeLists.txt" "$source/main.cpp" "$work"
cmake -S "$work" -B "$work/build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release
cmake --build "$work/build"
"$work/build/consumer"

# What the target passes on makes a large frame meet the guard, and creel names the fiber.
if report=$({ "$work/build/consumer" overflow; } 2>&1); then
    echo "the overflow of a fiber's stack went unnoticed"
    exit 1
fi
if [[ $report != *'stack overflow in fiber "outside"'* ]]; then
    echo "the overflow of a fiber's stack was not reported: $report"
    exit 1
fi
