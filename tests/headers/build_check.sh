#!/usr/bin/env bash
# Checks that each public header begins with fibers/build_check.hpp.
# Usage: build_check.sh COMPILER INCLUDE_DIR HEADER... -- OBJECT...
# The source of each object includes one header and nothing else.
set -u
compiler=$1
include=$2
shift 2
failed=0
complain() {
    echo "$1"
    failed=1
}

# says FLAGS WANTED HEADER: the compiler must refuse the header with this one message and no other.
says() {
    local report
    if report=$(LC_ALL=C "$compiler" -std=c++20 $1 -fsyntax-only -I "$include" -x c++ \
        -include "creel/$3" /dev/null 2>&1); then
        complain "$3 compiles with $1"
    elif [[ $report != *"error: "*"$2"* || $(grep -cE '(^|[^#])error: ' <<<"$report") != 2 ]]; then
        complain "$3 with $1 says: $report"
    fi
}

# Prints each of these headers whose first text is not the build check. A header may begin with
# another header of creel that begins with it. Then the message of the check is the first one.
# (A compiler that preprocesses or parses each header needs up to a minute beside other tests.)
without_check() {
    awk -v include="$include" '
        # The header of creel that the first text of the file includes, or "".
        function first_include(file, line) {
            while ((getline line < file) > 0 && line ~ /^[ \t]*(\/\/.*)?$|^#pragma once$/) {}
            close(file)
            if (line !~ /^#include <creel\/.*>$/)
                return ""
            return include "/" substr(line, 11, length(line) - 11)
        }
        BEGIN {
            for (i = 1; i < ARGC; ++i) {
                for (file = ARGV[i]; file != "" && file !~ /\/fibers\/build_check.hpp$/;)
                    file = first_include(file)
                if (file == "")
                    print ARGV[i]
            }
        }' "$@"
}

headers=()
while [[ $# -gt 0 && $1 != -- ]]; do
    headers+=("$include/creel/$1")
    shift
done
shift
planted=$(dirname "$0")/late_build_check.hpp
for header in $(without_check "${headers[@]}"); do
    complain "$header does not begin with fibers/build_check.hpp"
done
[[ -f $planted && $(without_check "$planted") == "$planted" ]] || complain "$planted passes"
says -std=c++17 'creel needs C++20: compile with -std=c++20' creel.hpp
says -fno-exceptions 'creel needs exceptions: compile without -fno-exceptions' creel.hpp

# One nm for all objects, and no demangling: that took most of the time.
declare -A checks=()
while read -r name; do
    checks[$name]=$((${checks[$name]:-0} + 1))
done < <(nm -A --undefined-only "$@" | grep -o '^.*: *U _ZN5creel11build_check' | sed 's/: *U .*//')
for object; do
    ((${checks[$object]:-0} >= 2)) || complain "$object does not tell the linker of its flags"
done
((${#headers[@]} > 40 && $# == ${#headers[@]})) || complain "${#headers[@]} headers and $# objects"
exit $failed
