#!/bin/sh
# ccache.sh COMPILER ARGUMENT...: compiles with ccache, as a compiler launcher of CMake. Beside each
# header that GCC precompiles it leaves OUTPUT.sum, a checksum; precompile.sh does so for clang's.
# ccache reads that for each source instead of the header, which has some 120 MB: an object from the
# cache takes 0.05 s instead of 1.5 s, and one that is compiled 2.1 s instead of 3.6 s.
set -eu
export CCACHE_PCH_EXTSUM=true
case " $* " in
*" -x c++-header "*) ;;
*) exec ccache "$@" ;;
esac
output=
previous=
for argument in "$@"; do
    [ "$previous" != -o ] || output=$argument
    previous=$argument
done
[ -n "$output" ] || exec ccache "$@"
rm -f "$output.sum" # it is not left beside another header
ccache "$@"
b2sum <"$output" >"$output.sum.$$"
mv "$output.sum.$$" "$output.sum" # there is none that is not whole
