#!/usr/bin/env bash
# Makes a source of the only ```cpp block of a text, which is a whole program.
# Usage: extract_program.sh TEXT OUTPUT
set -euo pipefail

awk -v text="$(basename "$1")" '
/^```cpp$/ { ++blocks; inside = 1; print "#line " NR + 1 " \"" text "\""; next }
/^```$/ { inside = 0 }
inside { print }
END {
    if (blocks != 1 || inside) {
        print text ": not one ```cpp block" > "/dev/stderr"
        exit 1
    }
}' "$1" > "$2"
