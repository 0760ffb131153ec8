#!/usr/bin/env bash
# Checks the arrows of ARCHITECTURE.md: sync -> fibers <- io. Prints each offence as file:line.
# Usage: layers.sh [ROOT]
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# Sources of sync/ and io/ that may include a private header of fibers/ and name creel::detail, as
# lines "file header".
# Each needs a reason here.
#   valgrind.hpp: io/ waits differently in valgrind. That is not part of the interface of fibers/.
private_allowed="
io/detail/ring/ring.cpp fibers/detail/system/valgrind.hpp
"

files=(creel.hpp)
for folder in fibers sync io; do
    [[ -d $folder ]] || continue
    while IFS= read -r file; do files+=("$file"); done \
        < <(find "$folder" -name '*.hpp' -o -name '*.cpp' | LC_ALL=C sort)
done

awk -v private_allowed="$private_allowed" '
function offence(place, text) { print place ": " text; failed = 1 }
function folder_of(path) { return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : "" }
function is_public(path) { return path == "creel.hpp" || path ~ /^[a-z]+\/[^\/]+\.hpp$/ }
function names_boost(header) { return header ~ /^boost\// }
function names_liburing(header) { return header ~ /^(liburing\.h$|liburing\/|linux\/io_uring)/ }
function names_sockets(header) {
    return header ~ /^(sys\/(socket|un)\.h|netdb\.h|arpa\/inet\.h|netinet\/|linux\/(tcp|in|in6|un)\.h)/
}

BEGIN {
    count = split(private_allowed, lines, "\n")
    for (i = 1; i <= count; ++i) {
        allowed[lines[i]] = 1
        may_name_detail[substr(lines[i], 1, index(lines[i] " ", " ") - 1)] = 1
    }
}

FNR == 1 { file = FILENAME; seen[file] = 1 }

# The names of fibers/detail also reach the other folders through public headers.
/creel::detail([^a-z_]|$)/ && file ~ /^(sync|io)\// && !(file in may_name_detail) {
    code = $0
    sub(/\/\/.*/, "", code)
    if (code ~ /creel::detail([^a-z_]|$)/)
        offence(file ":" FNR, "private name of another folder")
}

/^[ \t]*#[ \t]*include[ \t]*"/ {
    offence(file ":" FNR, "spell a header of the tree <creel/folder/name.hpp>")
    next
}

/^[ \t]*#[ \t]*include[ \t]*</ {
    header = $0
    sub(/^[^<]*</, "", header)
    sub(/>.*/, "", header)
    place = file ":" FNR
    from = folder_of(file)

    if (header ~ /^creel\//) {
        target = substr(header, 7)
        to = folder_of(target)
        included[file] = included[file] " " target
        if (file == "creel.hpp") {
            listed[target] = 1
            if (target ~ /\/detail\//)
                offence(place, "creel.hpp includes public headers only")
        } else if (to == "") {
            offence(place, "the library does not include creel.hpp")
        } else if (to != from && to != "fibers") {
            offence(place, from "/ must not know " to "/")
        } else if (to != from && target ~ /\/detail\// && !((file " " target) in allowed)) {
            offence(place, "private header of another folder")
        }
        next
    }
    if (names_boost(header) || names_liburing(header))
        foreign[file] = foreign[file] " " place "=" header
    if (names_boost(header) && from != "fibers")
        offence(place, "only fibers/ names Boost")
    if (names_liburing(header) && from != "io")
        offence(place, "only io/ names liburing")
    if (names_sockets(header) && from != "io")
        offence(place, "only io/ names the socket headers")
}

# The headers that a public header reaches, private ones too, name neither Boost nor liburing.
function check_reach(path, root,    parts, count, i) {
    if ((root, path) in reached)
        return
    reached[root, path] = 1
    count = split(foreign[path], parts, " ")
    for (i = 1; i <= count; ++i)
        offence(substr(parts[i], 1, index(parts[i], "=") - 1), "<" substr(parts[i], \
            index(parts[i], "=") + 1) "> is reached from the public header " root)
    count = split(included[path], parts, " ")
    for (i = 1; i <= count; ++i)
        check_reach(parts[i], root)
}

END {
    for (path in seen) {
        if (!is_public(path))
            continue
        check_reach(path, path)
        if (path != "creel.hpp" && !(path in listed))
            offence("creel.hpp:1", "the public header " path " is missing")
    }
    exit failed
}' "${files[@]}" | LC_ALL=C sort -t: -k1,1 -k2,2n
