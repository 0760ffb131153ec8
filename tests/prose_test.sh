#!/usr/bin/env bash
# Plants one fault after another in an empty tree and sees prose.sh name each by file:line, and
# nothing else.
# Usage: prose_test.sh ROOT
set -euo pipefail
check=$1/tests/prose.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

# report FILE LINE...: what the check says of a tree that has only this file.
report() {
    local file=$1
    shift
    rm -rf "${tree:?}"/*
    mkdir -p "$tree/$(dirname "$file")"
    printf '%s\n' "$@" >"$tree/$file"
    "$check" "$tree"
}

# planted FILE TEXT LINE...: with these lines as FILE, and a harmless one below, the check must fail,
# with TEXT at the last of the lines and nothing else.
planted() {
    local file=$1 text=$2 output status=0
    shift 2
    output=$(report "$file" "$@" "// # It waits.") || status=$?
    if ((status == 0)) || [[ $output != "$file:$#: $text"* || $output == *$'\n'* ]]; then
        echo "not found: '$*' in $file (exit $status): $output"
        failed=1
    fi
}

# clean FILE LINE...: the check must find nothing here.
clean() {
    local output
    output=$(report "$@") || true
    if [[ -n $output ]]; then
        echo "found for no reason: $output"
        failed=1
    fi
}

wide=$(printf 'x%.0s' {1..121})
planted README.md "a line of 121 columns" "" "$wide"
planted ARCHITECTURE.md "a line of 121 columns" "$wide"
planted CHANGELOG.md "a line of 121 columns" "$wide"
planted docs/guide.md "a line of 121 columns" "| a table | is no exception |" "$wide"
planted docs/guide.md '"nobody"' "A task waits." "Nobody wakes it."
planted docs/guide.md '"for want of"' "A task waits for want" "of a fiber."
planted fibers/planted.hpp '"whoever"' "// Whoever wakes it"
planted sync/planted.cpp '"so long"' "int i = 0; // so long as it is 0"
planted io/detail/ring/planted.hpp '"shall"' "const char* a = \"//\"; // It shall wait."
planted io/planted.cpp '"somebody"' "const char quote = '\"'; // somebody's"
planted tests/fibers/planted_test.cpp '"as it were"' "// It is, as" "// it were, empty."
planted bench/planted.cpp '"save for"' "// All, save for the last."
planted examples/planted.cpp '"lest"' "// Lest it waits."
planted tests/planted.sh '"ere"' "true" "# ere it ends"
planted tests/CMakeLists.txt '"that which"' "# That which is compiled."
planted fibers/planted.cpp "DESIGN is not in the repository" "// See DESIGN.md, section 2."
planted fibers/planted.cpp "STYLE is not in the repository" "" "// See STYLE in ARCHITECTURE.md."
planted docs/guide.md "RECIPES is not in the repository" "(RECIPES 2)"

clean README.md "${wide:1}" "A design, a style; a place for somebody_else; nobodys, here, solong."
clean fibers/planted.cpp 'std::string user = "nobody"; // the user "guest"' "int shall = 1 / 2;"
planted fibers/planted.cpp "a comment in a line of 124 columns" "// $wide"
clean fibers/planted.cpp "// It is ${wide:30}" "int $wide;"
exit $failed
