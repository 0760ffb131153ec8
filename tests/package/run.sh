#!/usr/bin/env bash
# Installs a build of creel into a temporary directory. Then builds and runs this outside project
# with only that installation, by CMake and by pkg-config.
# Usage: run.sh BUILD_DIR [COMPILER]
set -euo pipefail
build=$1
compiler=${2:-c++}
source=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "$1"
    exit 1
}

cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"
[[ -s $work/prefix/share/creel/gdb/creel-gdb.py ]] || fail "the script for gdb is not installed"
# A copy cannot find a file of the tree by a relative path.
cp "$source/CMakeLists.txt" "$source/main.cpp" "$work"
cmake -S "$work" -B "$work/build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release
cmake --build "$work/build"
"$work/build/consumer"

# With the options that the target passes on, a large frame meets the guard, and creel names the
# fiber.
if report=$({ "$work/build/consumer" overflow; } 2>&1); then
    fail "the overflow of a fiber's stack went unnoticed"
fi
[[ $report == *'stack overflow in fiber "outside"'* ]] ||
    fail "the overflow of a fiber's stack was not reported: $report"

# creel.pc says the same: the folders, the Boost libraries, and the option that the guard needs.
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name creel.pc)")
export PKG_CONFIG_PATH
read -ra flags <<<"$(pkg-config --cflags creel)"
read -ra libraries <<<"$(pkg-config --libs creel)"
[[ $(pkg-config --modversion creel) == $("$work/build/consumer" | sed 's/^creel //') ]] ||
    fail "creel.pc has another version"
wanted=$(sed -n 's/^CREEL_BOOST:STRING=//p' "$build/CMakeCache.txt")
[[ ${libraries[*]} == *libboost_fiber."$([[ $wanted == static ]] && echo a || echo so)"* ]] ||
    fail "creel.pc links another Boost than the $wanted one: ${libraries[*]}"
[[ " ${flags[*]} " == *' -fstack-clash-protection '* ]] ||
    fail "creel.pc leaves large frames unchecked: ${flags[*]}"
"$compiler" -std=c++20 "${flags[@]}" -O1 "$work/main.cpp" "${libraries[@]}" -o "$work/consumer"
"$work/consumer"

# A source with other sanitizers, or other containers, does not link, and the linker says what to
# do. That is also so if the source includes only one header of creel, and if the linker drops
# unused sections.
printf '#include <creel/fibers/version.hpp>\nint main() {}\n' >"$work/one_header.cpp"
refused() {
    local report
    "$compiler" -std=c++20 "${flags[@]}" -O2 -ffunction-sections -fdata-sections "${@:2}" \
        -c "$work/one_header.cpp" -o "$work/one_header.o"
    if report=$("$compiler" "$work/one_header.o" -Wl,--gc-sections "${libraries[@]}" \
        -o "$work/one_header" 2>&1); then
        fail "a source compiled with ${*:2} was linked"
    fi
    [[ $report == *"$1"*see_docs_building_md* ]] || fail "${*:2} is not named: $report"
}
refused this_source_has_fsanitize_address_and_creel_has_not -fsanitize=address
refused this_source_has_fsanitize_thread_and_creel_has_not -fsanitize=thread
refused this_source_has_GLIBCXX_DEBUG_and_creel_has_not__use_GLIBCXX_ASSERTIONS -D_GLIBCXX_DEBUG
"$compiler" -std=c++20 "${flags[@]}" -D_GLIBCXX_ASSERTIONS -Wl,--gc-sections \
    "$work/one_header.cpp" "${libraries[@]}" -o "$work/one_header"
