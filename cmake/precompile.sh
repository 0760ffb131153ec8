#!/bin/sh
# precompile.sh OUTPUT HEADER... -- CLANG OPTION...: writes OUTPUT, one precompiled header of these
# headers, OUTPUT.d, the list of the files that they include, and OUTPUT.sum, a checksum that ccache
# reads instead of OUTPUT (see ccache.sh). Clang writes the paths of its sources into OUTPUT, and
# resolves relative ones from its working folder. So it runs in / and reads its standard input: then
# the same headers give the same bytes in each clone, and ccache finds the objects that were
# compiled with them.
set -eu
output=$1
shift
headers=$(mktemp)
trap 'rm "$headers"' EXIT
while [ "$1" != -- ]; do
    cat "$1"
    shift
done >"$headers"
shift
rm -f "$output.sum" # it is not left beside another header
cd /
"$@" -Wno-pragma-once-outside-header -Xclang -fno-pch-timestamp -fpch-instantiate-templates \
    -MD -MQ "$output" -MF "$output.d" -x c++-header - -o "$output" <"$headers"
b2sum <"$output" >"$output.sum.$$"
mv "$output.sum.$$" "$output.sum" # there is none that is not whole
