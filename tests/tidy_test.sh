#!/usr/bin/env bash
# The test of tidy.sh, in a small tree of its own. A fault that clang-tidy finds makes tidy.sh fail,
# and fail again, whether the source is read alone or with others. Only sources that have passed are
# left out the next time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export XDG_CACHE_HOME=$place/cache
tree="$place/a tree" # a space in its path
mkdir -p "$tree"/{tests,fibers,sync,io,build/clang}
cp .clang-tidy "$tree"
cp tests/tidy.sh "$tree/tests"
cd "$tree"

# write SOURCE LINE...
write() { printf '%s\n' "${@:2}" >"$1"; }

write sync/shared.hpp '#pragma once' 'namespace creel { int shared(); }'
include='#include <creel/sync/shared.hpp>'
for source in sync/a sync/b sync/c fibers/d; do
    write "$source.cpp" "$include" 'namespace creel { int '"${source#*/}"'() { return shared(); } }'
    cat <<END
{
  "directory": "$PWD/build/clang",
  "command": "clang++-16 -I\\"$PWD/include\\" -include-pch \\"$PWD/not_built.pch\\" -std=c++20 -Wall -Werror -o $source.o -c \\"$PWD/$source.cpp\\"",
  "file": "$PWD/$source.cpp"
},
END
done | sed -e '1i [' -e '$s/.*/}\n]/' >build/clang/compile_commands.json
mkdir include
ln -s .. include/creel

# expect STATUS READ TEXT CASE: the run must end with this exit status, read this number of sources
# and print the text.
expect() {
    local status=0
    output=$(tests/tidy.sh 2>&1) || status=$?
    [[ $status == "$1" && $output == *"over $2 of 4 sources"* && $output == *"$3"* ]] || fail "$4"
}

fail() {
    printf 'tidy: %s\n%s\n' "$1" "$output" >&2
    exit 1
}

expect 0 4 '' 'nothing to find'
[[ $output != *'as one'* ]] || fail 'what passes is not read as one'
expect 0 0 '' 'nothing changed'

clean=$(<sync/a.cpp)
unused='namespace creel { int unused(int first, int second) { return first; } }'
write sync/a.cpp "$clean" "$unused"
expect 1 1 misc-unused-parameters 'a fault in one source'
expect 1 1 misc-unused-parameters 'the same fault again'
write sync/shared.hpp '#pragma once' 'namespace creel { long shared(); }'
sed -i 's/ int \([abcd]\)()/ long \1()/' sync/?.cpp fibers/d.cpp
expect 1 4 misc-unused-parameters 'a fault beside sources that pass'
expect 1 1 misc-unused-parameters 'those that passed are left out'

write sync/a.cpp "$include" 'namespace creel { long a() {' '    namespace alias = creel;' \
    '    return shared(); } }'
expect 1 1 misc-unused-alias-decls 'an unused alias, alone'
write sync/b.cpp "$include" 'namespace creel { namespace { long same() { return shared(); } }' \
    'long b() { return same(); } }'
write sync/c.cpp "$include" 'namespace creel { namespace { long same() { return shared(); } }' \
    'long c() { return same(); } }'
expect 1 3 'as one' 'sources that cannot be compiled as one'
write sync/a.cpp "$include" 'namespace creel { long a() { return shared(); } }'
expect 0 1 '' 'the last fault mended'
expect 0 0 '' 'nothing changed since'
echo "tidy.sh finds what is planted, and leaves out what has passed"
