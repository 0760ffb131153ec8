#!/usr/bin/env bash
# Runs the mistakes and tells what each of them does, as rows of a Markdown table. The table of the
# README is what is expected: a row that differs is an error. Not compared are the cells that are
# right or wrong by luck, the line in a sanitizer's report, and the place of a coroutine's stack
# overflow: its calls go through operator new(), and in 2 of 60 runs the stack ended at a point in
# there from which ASan cannot unwind ("<empty stack>").
#
# A program that ends is told by its status or its signal. A program that hangs is told by whether
# it sleeps, and by what ends it. Then comes what a person sees: the report of a sanitizer, else the
# first line of stderr, else the last line of stdout.
# Usage: run.sh [--print] release|address FOLDER COMPILER FLAG...
#   --print   prints the rows and compares nothing: for the README
#   FOLDER    has the programs: fibers/NAME and coroutines/NAME
#   COMPILER  tells what it says about a forgotten co_await, with these flags
# shellcheck disable=SC2016 # the backticks are Markdown's
set -euo pipefail

compare=1
[[ $1 != --print ]] || { compare=0 && shift; }
build=$1 folder=$2
compiler=("${@:3}")
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
# As for a person at a shell: nothing that changes an allocator or a report.
unset ASAN_OPTIONS LSAN_OPTIONS UBSAN_OPTIONS CREEL_DEBUG MALLOC_PERTURB_ GLIBC_TUNABLES LD_PRELOAD
export LC_ALL=C
ulimit -c 0
ulimit -s 8192 # KiB: two rows are about a stack that overflows
ulimit -t 30   # seconds of CPU: three rows spin until they are killed

directory=$(mktemp -d)
# Each job has a process group, and dies with this script. Without that a job ignores Ctrl-C.
set -m
clean_up() {
    local group
    exec 2>/dev/null # bash would tell of each job that is killed
    for group in $(jobs -rp); do
        kill -KILL -- "-$group" || true
    done
    rm -rf "$directory"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# A row: what is special about the run, the program, and its argument. "retired stacks" is ASan's
# option detect_stack_use_after_return, "debug" is CREEL_DEBUG=1.
case $build in
release)
    labels='release|debug|compiler'
    rows=(release:{dangling_local,dangling_parameter,dangling_capture,forgotten_await}
        compiler:forgotten_await release:{uncaught_exception,blocking_call,lock_held_over_wait}
        {release,debug}:cancel_swallowed release:{deadline_missed,callback_from_thread}
        release:callback_from_thread:right release:deep_recursion release:deep_recursion:right
        release:{await_in_loop,await_in_loop_unoptimized,leak_at_shutdown})
    ;;
address)
    labels='ASan|ASan, retired stacks'
    rows=(ASan:{dangling_local,dangling_parameter,dangling_capture}
        'ASan, retired stacks':dangling_{parameter,capture}
        ASan:{deep_recursion,await_in_loop,leak_at_shutdown})
    ;;
*)
    echo "run.sh: no such build: $build" >&2
    exit 2
    ;;
esac

# by_luck FOLDER LABEL PROGRAM: true if what the program does is undefined, and nothing reports it.
by_luck() {
    case $1:$2:$3 in
    *:release:dangling_local | coroutines:release:dangling_*) ;;
    coroutines:ASan:dangling_parameter | coroutines:ASan:dangling_capture) ;;
    *) return 1 ;;
    esac
}

# state PID: sets state to a letter, as ps shows it, or to nothing if the process has ended.
state() {
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" || stat=
    stat=${stat##*) } # behind the name of the program
    state=${stat:0:1}
    [[ $state != [ZX] ]] || state=
}

# ended PID SECONDS: waits for its end, at most so many seconds. False if it lives on.
ended() {
    local i
    for ((i = 0; i < 20 * $2; ++i)); do
        state "$1"
        [[ -n $state ]] || return 0
        sleep 0.05
    done
    return 1
}

# end_hang PID SECONDS: ends a program that hangs, and tells how. The first SIGTERM gets so many
# seconds: many, where it is expected to suffice, because the machine may be busy.
end_hang() {
    local awake=0 i
    for ((i = 0; i < 5; ++i)); do
        state "$1"
        [[ $state != R ]] || ((++awake))
        sleep 0.05
    done
    local how='hangs, asleep'
    ((awake < 4)) || how='hangs, at full speed'
    kill -TERM "$1"
    if ended "$1" "$2"; then
        echo "$how; SIGTERM ends it"
        return
    fi
    kill -TERM "$1"
    if ended "$1" 10; then
        echo "$how; the second SIGTERM ends it"
        return
    fi
    kill -KILL "$1"
    echo "$how; only SIGKILL ends it"
}

# said FILE: the line that a person looks at, from FILE.err or FILE.out.
said() {
    local line place
    if line=$(grep -oE -m 1 '(Address|Leak)Sanitizer: [a-z][a-z -]*[a-z]' "$1.err"); then
        # The first frame of the report that is in a mistake.
        place=$(grep -oE -m 1 '(fibers|coroutines)/[a-z_]*\.cpp:[0-9]+' "$1.err") || place=
        echo "${line% on address}${place:+ at $place}"
        return
    fi
    line=$(head -n 1 "$1.err")
    [[ -n $line ]] || line=$(tail -n 1 "$1.out")
    # Without the folder, a number that depends on the compiler, and a long first half.
    line=$(sed -E "s#bench/mistakes/##g; s#[0-9]+ are in use#... are in use#; s#\`#'#g
        s#creel: the nursery opened at.*: from#creel: ... from#; s#on thread [0-9]+#on thread ...#" <<<"$line")
    echo "${line:-(nothing)}"
}

# run_program FOLDER LABEL PROGRAM ARGUMENT: prints a cell of the table.
run_program() {
    local file="$directory/$1.$2.$3.$4" status=0 how i patience=10
    local -a command=(env)
    case $2 in
    *stacks) command+=(ASAN_OPTIONS=detect_stack_use_after_return=1) ;;
    debug) command+=(CREEL_DEBUG=1) ;;
    esac
    command+=("$folder/$1/$3" ${4:+"$4"})
    case $1/$3 in
    # The loop stands still and never sees the cancel that the first SIGTERM is.
    fibers/lock_held_over_wait | fibers/cancel_swallowed) patience=1 ;;
    esac
    case $1/$3 in
    */lock_held_over_wait | */cancel_swallowed)
        "${command[@]}" >"$file.out" 2>"$file.err" &
        local pid=$!
        # They print a line when they are about to hang.
        for ((i = 0; i < 200; ++i)); do
            [[ ! -s $file.out ]] || break
            sleep 0.05
        done
        if ended "$pid" 1; then
            wait "$pid" || status=$?
        else
            how=$(end_hang "$pid" "$patience")
            wait "$pid" || true
        fi
        ;;
    *)
        # In the foreground, because it would leave the job's process group otherwise.
        timeout --foreground --signal KILL 30 "${command[@]}" >"$file.out" 2>"$file.err" || status=$?
        ;;
    esac
    if [[ -z ${how:-} ]]; then
        how="exits with $status"
        ((status <= 128)) || how="SIG$(kill -l "$status")"
    fi
    ! by_luck "$1" "$2" "$3" || how="by luck, $how"
    printf '%s: `%s`\n' "$how" "$(said "$file")"
}

# compile FOLDER PROGRAM: prints the cell for what the compiler says.
compile() {
    local file="$directory/$1.compiler" count line
    "${compiler[@]}" -fsyntax-only "$source/$1/$2.cpp" >"$file" 2>&1 || {
        echo 'does not compile'
        return
    }
    count=$(grep -c ' warning: ' "$file") || count=no
    line=$(grep -oE -m 1 'warning: [^,]*' "$file") || line='(nothing)'
    printf 'compiles, with %s warning: `%s`\n' "$count" "$(tr -d "'" <<<"${line#warning: }")"
}

# All at once, because most of the time is spent waiting.
for row in "${rows[@]}"; do
    IFS=: read -r label program argument <<<"$row"
    for style in fibers coroutines; do
        if [[ $label == compiler ]]; then
            compile "$style" "$program"
        elif [[ $label == debug && $style == coroutines ]]; then
            echo -
        else
            run_program "$style" "$label" "$program" "$argument"
        fi >"$directory/$row.$style" 2>"$directory/$row.$style.shell" </dev/null &
    done
done
wait

for row in "${rows[@]}"; do
    IFS=: read -r label program argument <<<"$row"
    printf '| `%s%s` | %s | %s | %s |\n' "$program" "${argument:+ $argument}" "$label" \
        "$(<"$directory/$row.fibers")" "$(<"$directory/$row.coroutines")"
done >"$directory/table"
# Without what is not compared, of rows on stdin.
compared() {
    sed -E 's#by luck, [^|]*#by luck #g; s#(Sanitizer: [^`]*\.cpp):[0-9]+#\1#g
        s#(stack-overflow) at coroutines/[^`]*#\1#g' | sort
}
if ((!compare)); then
    cat "$directory/table"
elif ! diff <(grep -E "^\| \`.*\` \| ($labels) \|" "$source/README.md" | compared) \
    <(compared <"$directory/table"); then
    echo "run.sh: < is what the README says, > is what the programs do" >&2
    exit 1
fi
