#!/usr/bin/env bash
# Shows what the code of same_job costs beside its run time, for each style and job:
#
#   lines    of the program's source, and words. A line that is blank or only a comment does not
#            count, nor do comments after code
#   compile  CPU time and peak memory of the compiler, the median of three runs. Each run compiles
#            all programs, one after the other, with the options of the build, and without ccache
#   size     of the program's text, and of its file when it is stripped
#   stack    what gdb shows in the crawler at one point: parse() has been called with the head of
#            page 0, for which the program has waited
#
# It takes about nine minutes on an idle machine, most of them for Asio's programs; --quick compiles
# once and takes three. Tables go to stdout, progress to stderr. The whole backtraces stay in
# BUILD/bench/same_job/code.
#
# Usage: code.sh [--quick] BUILD, a folder in which same_job_check and all programs are built with
# Ninja; or code.sh --lines, which needs no build
set -euo pipefail

styles=(creel coroutine_uring asio_coroutine asio_coroutine_uring)
jobs=(echo fanout producer_consumer crawler chat)

fail() {
    echo "code.sh: $*" >&2
    exit 1
}

progress() { echo "== $*" >&2; }

# folder_of style: asio_coroutine_uring has the sources of asio_coroutine.
folder_of() {
    case $1 in
    asio_coroutine_uring) echo asio_coroutine ;;
    *) echo "$1" ;;
    esac
}

# code_of file...: prints the code without comments. No source has comments between /* and */.
code_of() { sed -E 's#(^|[[:space:]]+)//.*$##' "$@" | grep -E '[^[:space:]]'; }

# lines_and_words file...
lines_and_words() {
    local lines words _
    read -r lines words _ < <(code_of "$@" | wc)
    echo "$lines ($words)"
}

# table title array style...: prints the array, whose keys are style/job.
table() {
    local title=$1 style job
    local -n values=$2
    printf '\n%s\n\n%-21s' "$title" ''
    printf '%18s' "${jobs[@]}"
    printf '\n'
    for style in "${@:3}"; do
        printf '%-21s' "$style"
        for job in "${jobs[@]}"; do printf '%18s' "${values[$style/$job]:--}"; done
        printf '\n'
    done
}

count_lines() {
    local -A count
    local style job source
    for style in "${styles[@]}"; do
        for job in "${jobs[@]}"; do
            source=$here/$(folder_of "$style")/$job.cpp
            [[ ! -e $source ]] || count[$style/$job]=$(lines_and_words "$source")
        done
    done
    table 'Lines of code, and words' count "${styles[@]:0:3}"
    printf '\nasio_coroutine_uring has the sources of asio_coroutine. '
    printf 'Their own header has %s, beside these.\n' \
        "$(lines_and_words "$here"/asio_coroutine/*.hpp)"
    printf 'The headers of creel and of Asio are libraries and do not count. '
    printf 'The loop of coroutine_uring, written for\nthis benchmark, has %s.\n' \
        "$(lines_and_words "$here"/coroutine/*.[hc]pp)"
}

# Sets `compile` to the command that compiles the job in the style, without ccache, and without the
# options that name its outputs.
find_compile() { # style job
    local command word i
    local object
    object=bench/same_job/CMakeFiles/same_job_$1_$2.dir/$(folder_of "$1")/$2.cpp.o
    command=$(ninja -C "$build" -t commands -s "$object") || fail "ninja does not know $object"
    [[ $command != *cmake_pch* ]] || fail "$1/$2 is compiled with a precompiled header"
    local words=()
    eval "words=($command)"
    compile=()
    for ((i = 0; i < ${#words[@]}; ++i)); do
        word=${words[i]}
        case $word in
        "$compiler") compile=("$word") ;; # what came before it is ccache
        -MD) ;;
        -MT | -MF | -o) ((++i)) ;;
        *) compile+=("$word") ;;
        esac
    done
    [[ ${compile[0]} == "$compiler" ]] || fail "this does not begin with $compiler: $command"
}

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

measure_compiles() {
    local -A cpu memory
    local one style job round done_=0 compile
    rm -f "$work"/*.times
    for ((round = 1; round <= rounds; ++round)); do
        for job in "${jobs[@]}"; do
            for style in "${styles[@]}"; do
                one=$style/$job
                [[ -n ${program[$one]:-} ]] || continue
                progress "compiles $((++done_)) of $((rounds * ${#program[@]})): $one"
                find_compile "$style" "$job"
                (cd "$build" && CCACHE_DISABLE=1 "$gnu_time" -a -o "$work/${one/\//.}.times" \
                    -f '%U %S %M' "${compile[@]}" -o "$work/object.o") || fail "cannot compile $one"
            done
        done
    done
    for one in "${!program[@]}"; do
        cpu[$one]=$(awk '{ printf "%.2f\n", $1 + $2 }' "$work/${one/\//.}.times" | median)
        memory[$one]=$(awk '{ printf "%.0f\n", $3 / 1024 }' "$work/${one/\//.}.times" | median)
    done
    rm -f "$work"/*.times "$work/object.o"
    table "CPU time of the compiler, s (median of $rounds)" cpu "${styles[@]}"
    table 'Peak memory of the compiler, MiB' memory "${styles[@]}"
    printf '\nThe commands, for crawler:\n\n'
    for style in "${styles[@]}"; do
        [[ -n ${program[$style/crawler]:-} ]] || continue
        find_compile "$style" crawler
        printf '    %s\n' "${compile[*]}"
    done
}

measure_sizes() {
    local -A text stripped
    local one
    for one in "${!program[@]}"; do
        text[$one]=$(size "${program[$one]}" | awk 'NR == 2 { printf "%.1f", $1 / 1024 }')
        strip -o "$work/stripped" "${program[$one]}"
        stripped[$one]=$(stat -c %s "$work/stripped" | awk '{ printf "%.1f", $1 / 1024 }')
    done
    rm -f "$work/stripped"
    table 'Text of the program, KiB, with the libraries that are linked into it' text "${styles[@]}"
    table 'File of the stripped program, KiB' stripped "${styles[@]}"
}

# Writes the script for gdb. It writes to CODE_FRAMES a line for each frame: `own` or `-`, the
# function, the place at which it is.
write_gdb_script() {
    cat >"$work/script.gdb" <<'SCRIPT'
set width 0
set startup-with-shell off
break same_job::parse
run
python
import os, re

# A program may also call parse() before it has received anything. It is asked for as text, because
# gdb 13 fails on conditions with an argument that lies in two registers.
while "HTTP/1.1" not in gdb.execute("print received", to_string=True):
    gdb.execute("continue")
gdb.execute("bt")

root = os.environ["CODE_ROOT"] + "/"
own_folder = "bench/same_job/" + os.environ["CODE_FOLDER"] + "/"

# The file of the line at which a frame stands. A file of the tree is named from its top; with some
# options the compiler does so too.
def file(place):
    name = os.path.normpath(place.symtab.filename) if place.symtab is not None else ""
    return name[len(root):] if name.startswith(root) else name

# "client::get" for "(anonymous namespace)::client::get(unsigned long)", and for a coroutine's body.
def short(name):
    name = name.replace("(anonymous namespace)::", "").replace("operator()", "operator_call")
    result, depth = "", 0
    for i, c in enumerate(name):
        if c in "(<":
            depth += 1
        elif c in ")>" and name[i - 1] != "-":
            depth -= 1
        elif depth == 0:
            result += c
    result = re.sub(r"( const|\s|&)*$", "", result)
    return re.sub(r"^.* ", "", result).replace("operator_call", "operator()")

# A function is the program's own if its line is in the folder of the style. The line may also be
# that of a constructor which is inlined into it; then the name tells. No library begins with an
# unnamed namespace.
def line(frame):
    name, place = frame.name() or "??", frame.find_sal()
    own = file(place).startswith(own_folder) or name.startswith("(anonymous namespace)::")
    at = re.sub("^(.*/)?include/(creel/)?|^bench/same_job/", "", file(place))
    return "\t".join(["own" if own else "-", short(name), "%s:%d" % (at, place.line) if at else ""])

with open(os.environ["CODE_FRAMES"], "w") as frames:
    frame = gdb.newest_frame()
    while frame is not None:
        print(line(frame), file=frames)
        frame = frame.older()
end
kill
SCRIPT
}

# Runs the check of the crawler. Its program is a script that runs the true one under gdb, until the
# breakpoint, and kills it. The check then says that the program has ended, which is no matter here.
# The check is bounded by itself. When it ends the kernel kills gdb, and then the program.
capture() { # style
    local wrapper=$work/under_gdb out=$work/$1.backtrace
    printf '#!/usr/bin/env bash\nexport CODE_ROOT=%q CODE_FOLDER=%q CODE_FRAMES=%q\n' \
        "$root" "$(folder_of "$1")" "$work/$1.frames" >"$wrapper"
    # Descriptor 3 keeps the pipe open on which the check waits for a line.
    # Without creel's own script, or gdb would say that it does not trust it.
    printf 'exec gdb -nx -batch -iex "set auto-load python-scripts off" -x %q --args %q "$@" 3>&1 >%q 2>&1\n' \
        "$work/script.gdb" "${program[$1/crawler]}" "$out" >>"$wrapper"
    chmod +x "$wrapper"
    rm -f "$work/$1.frames" "$out"
    timeout --foreground 60 "$build/bench/same_job/same_job_check" crawler "$wrapper" \
        2>"$work/check" || true
    if [[ ! -s $work/$1.frames ]]; then
        cat "$work/check" "$out" >&2 || true
        fail "gdb did not stop in the crawler of $1 with a head that has come"
    fi
    rm -f "$wrapper" "$work/check"
}

# seen style name...: prints the names that a frame of the program has, or parse().
seen() {
    local name result=-
    for name in "${@:2}"; do
        if awk -F '\t' -v name="$name" '
            $2 ~ "(^|::)" name "$" && ($1 == "own" || name == "parse") { found = 1 }
            END { exit !found }' "$work/$1.frames"; then
            result=$name
        fi
    done
    echo "$result"
}

show_backtraces() {
    local style chosen=()
    for style in "${styles[@]}"; do
        [[ -n ${program[$style/crawler]:-} ]] || continue
        progress "gdb: $style/crawler"
        capture "$style"
        chosen+=("$style")
    done
    rm -f "$work/script.gdb"
    printf '\nThe stack in the crawler when the head of page 0 has come. '
    printf 'The call was work > fetch > get > exchange or\nreceive > parse.\n\n'
    printf '%-21s%8s%16s   %s\n' '' frames 'of the program' 'of the call'
    for style in "${chosen[@]}"; do
        printf '%-21s%8d%16d   %s > %s > %s > %s > %s\n' "$style" \
            "$(wc -l <"$work/$style.frames")" "$(grep -c ^own "$work/$style.frames")" \
            "$(seen "$style" work)" "$(seen "$style" fetch)" "$(seen "$style" get)" \
            "$(seen "$style" exchange receive)" "$(seen "$style" parse)"
    done
    for style in "${chosen[@]}"; do
        printf '\n%s (* is a function of the program)\n\n' "$style"
        awk -F '\t' '{ printf "%s %3d  %-61s %s\n", $1 == "own" ? "*" : " ", NR - 1, $2, $3 }' \
            "$work/$style.frames" | sed 's/ *$//'
        rm -f "$work/$style.frames"
    done
    printf '\nWith template arguments and values: %s\n' "$work/*.backtrace"
}

rounds=3
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
root=${here%/bench/same_job}
case ${1:-} in
--lines)
    count_lines
    exit
    ;;
--quick)
    rounds=1
    shift
    ;;
esac
(($# == 1)) || fail "usage: code.sh [--quick] BUILD, or code.sh --lines"
build=$(realpath "$1")
[[ -e $build/build.ninja ]] || fail "$build is not a build by Ninja: ./dev build makes one"
for tool in ninja gdb size strip; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done
gnu_time=$(type -P time) || fail "GNU time is missing (Debian: time)"
compiler=$(sed -n 's/^set(CMAKE_CXX_COMPILER "\(.*\)")$/\1/p' \
    "$build"/CMakeFiles/*/CMakeCXXCompiler.cmake)
work=$build/bench/same_job/code
mkdir -p "$work"

# The programs that are built; the keys are style/job.
declare -A program=()
for style in "${styles[@]}"; do
    for job in "${jobs[@]}"; do
        path=$build/bench/same_job/$style/$job
        [[ ! -x $path ]] || program[$style/$job]=$path
    done
done
((${#program[@]})) || fail "no program is built in $build"

count_lines
measure_compiles
measure_sizes
write_gdb_script
show_backtraces
