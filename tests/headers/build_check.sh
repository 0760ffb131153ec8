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

# begins_with_check HEADER: the preprocessor must enter the build check before any header gives it
# text. Then the message of the check is the first one. (Parsing each header would take clang most of
# a second for each.)
begins_with_check() {
    "$compiler" -std=c++20 -E -I "$include" -x c++ -include "$1" /dev/null 2>/dev/null |
        awk '/^# [0-9]+ ".*\/fibers\/build_check.hpp"/ { found = 1; exit }
            NF && !/^#/ { exit }
            END { exit !found }'
}

headers=0
while [[ $# -gt 0 && $1 != -- ]]; do
    begins_with_check "creel/$1" || complain "$1 does not begin with fibers/build_check.hpp"
    ((++headers))
    shift
done
shift
planted=$(dirname "$0")/late_build_check.hpp
[[ -f $planted ]] && ! begins_with_check "$planted" || complain "$planted passes"
says -std=c++17 'creel needs C++20: compile with -std=c++20' creel.hpp
says -fno-exceptions 'creel needs exceptions: compile without -fno-exceptions' creel.hpp

for object; do
    [[ $(nm -C --undefined-only "$object") == *' creel::build_check::'*' creel::build_check::'* ]] ||
        complain "$object does not tell the linker of its flags"
done
((headers > 40 && $# == headers)) || complain "$headers headers and $# objects"
exit $failed
