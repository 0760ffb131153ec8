#!/usr/bin/env bash
# Plants one fault after another in a copy of the tree. layers.sh must name each by file:line.
# Usage: layers_test.sh ROOT
set -euo pipefail
root=$1
check=$root/tests/layers.sh
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/tree"
for entry in fibers sync io creel.hpp; do
    [[ -e $root/$entry ]] && cp -r "$root/$entry" "$copy/tree"
done
failed=0

# planted FILE TEXT LINE...: appends the lines to FILE. The check must fail with TEXT at the last
# line of FILE, or at the place with which TEXT begins.
planted() {
    local file=$1 text=$2 place output status=0
    shift 2
    cp -r "$copy/tree" "$copy/planted"
    mkdir -p "$copy/planted/$(dirname "$file")"
    printf '%s\n' "$@" >>"$copy/planted/$file"
    place=$file:$(wc -l <"$copy/planted/$file")
    [[ $text == *.hpp:* ]] && place=""
    output=$("$check" "$copy/planted") || status=$?
    if ((status == 0)) || ! grep -qF "${place:+$place: }$text" <<<"$output"; then
        echo "not found: '$*' in $file (exit $status)"
        failed=1
    fi
    rm -rf "$copy/planted"
}

planted fibers/planted.cpp "fibers/ must not know io/" "#include <creel/io/run.hpp>"
planted fibers/planted.cpp "fibers/ must not know sync/" "" "  #  include  <creel/sync/queue.hpp>"
planted sync/planted.cpp "sync/ must not know io/" "#include <creel/io/run.hpp>"
planted io/planted.cpp "io/ must not know sync/" "#include <creel/sync/queue.hpp>"
planted io/planted.cpp "only fibers/ names Boost" "#include <boost/fiber/all.hpp>"
planted sync/detail/planted.hpp "only fibers/ names Boost" "#include <boost/context/fiber.hpp>"
planted fibers/planted.cpp "only io/ names liburing" "#include <liburing.h>"
planted sync/planted.cpp "only io/ names liburing" "#include <linux/io_uring.h>"
planted fibers/planted.cpp "only io/ names the socket headers" "#include <sys/socket.h>"
planted sync/planted.cpp "only io/ names the socket headers" "#include <netinet/tcp.h>"
planted sync/planted.cpp "private header of another folder" "#include <creel/fibers/detail/x.hpp>"
planted io/planted.hpp "private header of another folder" "#include <creel/fibers/detail/x.hpp>"
planted sync/planted.hpp "private name of another folder" "using creel::detail::scheduler;"
planted io/detail/ring/planted.cpp "private name of another folder" "namespace creel::detail {"
planted io/planted.cpp "spell a header of the tree" '#include "ring.hpp"'
planted io/planted.cpp "the library does not include creel.hpp" "#include <creel/creel.hpp>"
planted creel.hpp "creel.hpp includes public headers only" "#include <creel/io/detail/x.hpp>"
planted fibers/planted.hpp "<boost/fiber/fiber.hpp> is reached from the public header" "#include <boost/fiber/fiber.hpp>"
planted io/planted.hpp "<liburing.h> is reached from the public header" "#include <liburing.h>"
planted io/planted.hpp "creel.hpp:1: the public header io/planted.hpp is missing" "#pragma once"

# Boost is two steps away, behind a private header.
mkdir -p "$copy/tree/fibers/detail"
echo "#include <boost/fiber/fiber.hpp>" >"$copy/tree/fibers/detail/planted.hpp"
planted fibers/planted.hpp "fibers/detail/planted.hpp:1: <boost/fiber/fiber.hpp> is reached" \
    "#include <creel/fibers/detail/planted.hpp>"
exit $failed
