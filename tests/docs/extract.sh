#!/usr/bin/env bash
# Makes a source of the ```cpp blocks of a guide. Each block becomes the body of a function. The
# table at the end has each function with the line of its block.
# Usage: extract.sh GUIDE OUTPUT
set -euo pipefail
guide=$1

awk -v guide="$(basename "$guide")" '
BEGIN {
    print "#include \"prelude.hpp\""
    print "namespace {"
}
/^```cpp$/ {
    first = NR + 1
    print "void example_at_" first "() {\n#line " first " \"docs/" guide "\""
    inside = 1
    next
}
/^```$/ && inside {
    inside = 0
    print "}"
    table = table "    {" first ", &example_at_" first "},\n"
    next
}
inside { print }
END {
    print "} // namespace"
    print "const std::vector<documented> examples{\n" table "};"
    if (inside || table == "") {
        print guide ": no ```cpp block, or one without an end" > "/dev/stderr"
        exit 1
    }
}' "$guide" > "$2"
