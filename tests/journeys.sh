#!/usr/bin/env bash
# Counts the layers that a reader passes on three journeys through the library:
#
#   1  a recv that must wait: from the call of tcp_stream::recv, not the first of its stream, to the
#      switch to another fiber, which is ready
#   2  a failing child: from its throw until the queue.pop of its sibling has thrown `cancelled`
#   3  an unlock that wakes another thread, whose scheduler sleeps: from its call to its return
#
# Builds the library of a tree and tests/journeys/main.cpp with -O0 and -finstrument-functions, runs
# the journeys, and prints for each the number of distinct functions of the library that it enters
# and the number of files in which they are defined. It is run by hand and not in CI: the figures of
# two trees are compared. It takes one or two minutes on two idle cores, or two seconds when ccache
# has the objects.
#
# What counts:
#   * A function of fibers/, sync/ or io/ counts. A function of std, of Boost or of the program that
#     makes the journeys does not count.
#   * A function is the place of its definition. The instances of a template are one function. A
#     lambda is a function.
#   * An accessor does not count. Its body is empty or holds one statement on one line, and it
#     enters no other function of the library on the journey. A body of one line that calls another
#     layer counts.
#   * A function without a body does not count: the compiler has written it. So a constructor that
#     only initialises members does not count.
# The last column is the number of functions with the accessors and those without a body.
#
# Usage: journeys.sh [-v] [ROOT]
#   -v    lists the functions that count, in the order of their first entries. The indentation is
#         the depth of the calls on the function's fiber, since the journey began.
#   ROOT  the tree to look at; this one if none is given. The build goes to ROOT/build/journeys.
set -euo pipefail

verbose=0
if [[ ${1:-} == -v ]]; then
    verbose=1
    shift
fi
program=$(realpath "$(dirname "${BASH_SOURCE[0]}")/journeys/main.cpp")
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

work=build/journeys
mkdir -p "$work/include/creel"
for entry in fibers sync io creel.hpp; do
    ln -sfn "$PWD/$entry" "$work/include/creel/$entry"
done
cp "$program" "$work/main.cpp"

compile=(g++ -std=c++20 -O0 -g1 -fno-inline -w -I "$work/include" "-fdebug-prefix-map=$PWD=/tree"
    -finstrument-functions -finstrument-functions-exclude-file-list=/usr/)
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=true CCACHE_DEPEND=true
! command -v ccache >/dev/null || compile=(ccache "${compile[@]}")

# The object of a/b.cpp is a_b.o. Objects of sources that were removed are not linked.
sources=("$work/main.cpp")
while IFS= read -r source; do sources+=("$source"); done \
    < <(find fibers sync io -name '*.cpp' | LC_ALL=C sort)
objects=()
for source in "${sources[@]}"; do
    object=${source//\//_}
    objects+=("$work/${object%.cpp}.o")
done
for i in "${!sources[@]}"; do
    printf '%s\0' -c "${sources[i]}" -o "${objects[i]}"
done | xargs -0 -n 4 -P "${CREEL_JOBS:-$(nproc)}" "${compile[@]}"

g++ -no-pie "${objects[@]}" -o "$work/program" \
    -Wl,-Bstatic -lboost_fiber -lboost_context -Wl,-Bdynamic -luring -pthread

timeout 60 "$work/program" >"$work/entries"

# A line "JOURNEY DEPTH PLACE NAME" for each entry of a function.
cut -d ' ' -f 3 "$work/entries" | addr2line -f -C -e "$work/program" | paste -d ' ' - - |
    sed -E 's#^(.*) /tree/(build/journeys/include/creel/)?([^ ]*).*$#\3 \1#' |
    paste -d ' ' <(cut -d ' ' -f 1,2 "$work/entries") - >"$work/places"

awk -v verbose="$verbose" '
function of_library(place) { return place ~ /^(fibers|sync|io)\// }

# The name without template arguments, parameters and the type of the result.
function plain(name,    i, c, depth, result) {
    gsub(/\(anonymous namespace\)/, "{anonymous}", name)
    gsub(/operator\(\)/, "operator_call", name)
    gsub(/\[abi:[a-z0-9]*\]/, "", name)
    for (i = 1; i <= length(name); ++i) {
        c = substr(name, i, 1)
        if (c == "(" || c == "<")
            ++depth
        else if (c == ")" || c == ">")
            --depth
        else if (depth == 0)
            result = result c
    }
    sub(/ (const|noexcept|&)*$/, "", result)
    sub(/^.* /, "", result)
    return result
}

function read_source(file,    line) {
    if (file in lines)
        return
    lines[file] = 0
    while ((getline line <file) > 0) {
        gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
        gsub(/\047([^\047\\]|\\.)\047/, "0", line)
        sub(/\/\/.*/, "", line)
        sub(/operator\(\)/, "operator_call", line)
        source[file, ++lines[file]] = line
    }
    close(file)
}

# Behind the bracket that closes the one at i.
function behind(text, i, open, close_,    depth, c) {
    for (; i <= length(text); ++i) {
        c = substr(text, i, 1)
        if (c == open)
            ++depth
        else if (c == close_ && --depth == 0)
            return i + 1
    }
    return i
}

# The text between the braces of a definition; "none" if it has none.
function body_of(name, file, line,    base, i, text, c, initialises, end) {
    read_source(file)
    base = name
    sub(/.*::/, "", base)
    is_lambda = name ~ /\{lambda#[0-9]+\}::operator_call$/
    # The compiler may name the second line of a declaration.
    for (i = line; !is_lambda && i > 0 && i > line - 4; --i)
        if (source[file, i] ~ "(^|[^A-Za-z0-9_])" base "\\(")
            break
    if (!is_lambda && (i <= 0 || i == line - 4))
        return "none"
    for (; i <= lines[file] && i < line + 200; ++i)
        text = text source[file, i] "\n"
    if (is_lambda) {
        match(text, /(^|[^A-Za-z0-9_\])\[])\[[^\[]/)
        i = behind(text, RSTART + RLENGTH - 2, "[", "]")
    } else {
        match(text, "(^|[^A-Za-z0-9_])" base "\\(")
        i = RSTART + RLENGTH - 1
    }
    while (i <= length(text)) {
        c = substr(text, i, 1)
        if (c == "(") {
            i = behind(text, i, "(", ")")
            continue
        }
        if (c == ";")
            return "none"
        if (c == ":" && substr(text, i - 1, 1) != ":" && substr(text, i + 1, 1) != ":")
            initialises = 1
        if (c == "{") {
            end = behind(text, i, "{", "}")
            # A member that is initialised with braces, and not the body.
            if (!initialises || substr(text, i - 1, 1) !~ /[A-Za-z0-9_>]/)
                return substr(text, i + 1, end - i - 2)
            i = end
            continue
        }
        ++i
    }
    return "none"
}

function is_short(body) {
    sub(/^[ \n]+/, "", body)
    sub(/[ \n]+$/, "", body)
    return body !~ /\n/ && gsub(/;/, ";", body) <= 1
}

{
    journey = $1
    place = $3
    if (of_library(place)) {
        # The last function enters this one.
        if (journey == last_journey && $2 > last_depth)
            enters[journey, last_place] = 1
        last_journey = journey
        last_depth = $2
        last_place = place
        if (!((journey, place) in depth)) {
            depth[journey, place] = $2
            order[journey, ++entered[journey]] = place
            name = $0
            sub(/^[^ ]+ [^ ]+ [^ ]+ /, "", name)
            names[place] = plain(name)
        }
    }
}

END {
    title[1] = "a recv that must wait"
    title[2] = "a failing child cancels its sibling in queue.pop"
    title[3] = "an unlock that wakes another thread"
    if (!verbose)
        printf "%-50s %9s %6s %20s\n", "", "functions", "files", "with accessors"
    for (journey = 1; journey in title; ++journey) {
        count = files = 0
        list = ""
        delete seen
        for (i = 1; i <= entered[journey]; ++i) {
            place = order[journey, i]
            split(place, parts, ":")
            body = body_of(names[place], parts[1], parts[2] + 0)
            if (body == "none" || (is_short(body) && !enters[journey, place]))
                continue
            ++count
            files += !seen[parts[1]]++
            list = list sprintf("%*s%s  %s\n", 2 * depth[journey, place] + 2, "", names[place], \
                place)
        }
        if (verbose)
            printf "%s%d. %s: %d functions in %d files\n%s", (journey > 1 ? "\n" : ""), journey, \
                title[journey], count, files, list
        else
            printf "%d. %-47s %9d %6d %20d\n", journey, title[journey], count, files, \
                entered[journey]
    }
}' "$work/places"
