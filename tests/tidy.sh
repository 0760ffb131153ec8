#!/usr/bin/env bash
# Runs clang-tidy over each source of the library that has changed since it last passed, in this
# clone or another. build/clang must be configured: ./dev tidy does that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=build/clang/tidy
mkdir -p "$work"
stamps=${XDG_CACHE_HOME:-~/.cache}/creel/tidy
{ mkdir -p "$stamps" && [[ -w $stamps ]]; } 2>/dev/null ||
    { stamps=$work/stamps && mkdir -p "$stamps"; }
# Without Debian's list of installed packages a change of them cannot be seen.
command -v dpkg-query >/dev/null || stamps=$(mktemp -d)

say() { echo "== $*" >&2; }

# The commands of the build without its precompiled headers, so that nothing must be built before.
sed -E 's# -include-pch (\\"[^"]*\\"|[^ ]*)##' build/clang/compile_commands.json >"$work/compile_commands.json"

# Prints a line "HASH SOURCE" for each source. The result of clang-tidy depends on the text of the
# source, the headers of the tree that it reaches, its compile command, the checks, and the
# installed compiler and libraries. The hash of all these names a stamp, which is a file that exists
# if clang-tidy has passed.
hashes() {
    local source files command everywhere commands
    everywhere=$(sha256sum .clang-tidy tests/tidy.sh)
    everywhere+=$(dpkg-query -W 'lib*-dev' linux-libc-dev 'clang*-16*' 2>/dev/null || true)
    everywhere+=$(ls -lR /usr/local/include 2>/dev/null || true)
    commands=$(awk -F '"' '/"command":/ { command = $0 } /"file":/ { print $4 "\t" command }' \
        "$work/compile_commands.json")
    find fibers sync io -name '*.[hc]pp' -print0 | xargs -0 awk '
        /^ *# *include <creel\// {
            sub(/^[^\/]*\//, ""); sub(/>.*/, "")
            included[FILENAME] = included[FILENAME] " " $0
        }
        { read[FILENAME] = 1 }
        function reach(file,    names, count, i) {
            if (reached[file]++)
                return
            printf " %s", file
            count = split(included[file], names, " ")
            for (i = 1; i <= count; ++i)
                reach(names[i])
        }
        END {
            for (source in read) {
                if (source !~ /\.cpp$/)
                    continue
                delete reached
                reach(source)
                print ""
            }
        }' | while read -r source files; do
        command=$(grep -F "$PWD/$source"$'\t' <<<"$commands") || {
            say "tidy: build/clang does not compile $source"
            return 1
        }
        # shellcheck disable=SC2086 # names without blanks
        printf '%s %s\n' "$({ echo "$everywhere" "${command//"$PWD"/}" &&
            sha256sum "$source" $files; } | sha256sum | cut -d ' ' -f 1)" "$source"
    done
}

find "$stamps" -type f -atime +60 -delete
hashes >"$work/hashes"
while read -r hash source; do
    if [[ -e $stamps/$hash ]]; then
        touch -a "$stamps/$hash"
    else
        echo "$source"
    fi
done <"$work/hashes" >"$work/changed"
say "clang-tidy over $(wc -l <"$work/changed") of $(wc -l <"$work/hashes") sources:" \
    "the rest passed as it is"

# at_once COMMAND...: runs the command with each line of the input as its argument, on all cores.
at_once() { xargs -r -d '\n' -n 1 -P "${CREEL_JOBS:-$(nproc)}" "$@"; }

# Most of clang-tidy's work for a source is work for its headers. So the changed sources of a folder
# are first checked as one source, and all have passed if that passes. If it does not pass, because
# of a fault or because they cannot be compiled as one, each is checked alone. A source with a
# using-declaration or a namespace alias is always checked alone: clang-tidy does not look for
# unused aliases in included files, and a use of the name in another source would hide that its own
# source does not use it. ./dev build clang shows the warnings of the compiler.
names='^[[:space:]]*(using [^=]*(;|$)|namespace [A-Za-z_0-9]+[[:space:]]*(=|$))'
for folder in fibers sync io; do
    group=$work/$folder
    grep "^$folder/" "$work/changed" | xargs -r grep -LE "$names" \
        >"$group.list" || true # -L and nothing found is a failure to grep
    [[ -s $group.list ]] || continue
    sed "s|.*|#include \"$PWD/&\" // NOLINT(bugprone-suspicious-include)|" \
        "$group.list" >"$group.cpp"
    first=$PWD/$(head -n 1 "$group.list") # is compiled as the others are
    {
        echo '['
        grep -F -B 3 -A 1 "\"file\": \"$first\"" "$work/compile_commands.json" |
            sed "s|$first|$PWD/$group.cpp|g; s/^}\$/},/"
        tail -n +2 "$work/compile_commands.json"
    } >"$work/with_group.json"
    mv "$work/with_group.json" "$work/compile_commands.json"
    echo "$group"
done | at_once sh -c '
    if clang-tidy-16 --quiet -p "$0" --extra-arg=-w "$1.cpp" >"$1.log" 2>&1; then
        cat "$1.list"
    else
        echo "== ${1##*/} did not pass as one source, see $1.log: each of its sources is read alone" >&2
    fi' "$work" >"$work/passed"

status=0
{ grep -vxFf "$work/passed" "$work/changed" || true; } | at_once sh -c \
    'clang-tidy-16 --quiet -p "$0" "$1" >&2 && echo "$1"' "$work" >"$work/passed_alone" || status=1

# A source gets its stamp only if it was not edited during the check.
{ grep -xFf <(hashes) "$work/hashes" || true; } | while read -r hash source; do
    ! grep -qxF "$source" "$work/passed" "$work/passed_alone" || touch "$stamps/$hash"
done
exit "$status"
