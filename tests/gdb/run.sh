#!/usr/bin/env bash
# Looks at the fibers of a program in gdb, with the script that the program brings along: at a
# breakpoint, in a core, without debug information and without symbols.
# Usage: run.sh PROGRAM SCRIPT
set -euo pipefail
program=$(realpath "$1")
script=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    printf '%s\n' "$@"
    exit 1
}

# in_gdb PROGRAM COMMAND...: runs the commands in gdb, which loads the script from the program.
in_gdb() {
    local arguments=() command
    for command in "${@:2}"; do arguments+=(-ex "$command"); done
    timeout -s KILL 100 gdb -nx -batch -iex 'set auto-load safe-path /' \
        -iex 'set debuginfod enabled off' "${arguments[@]}" "$1" 2>&1 </dev/null ||
        true # the last command may be one that is to fail
}

# expect WHERE TEXT PATTERN...: lines that match the patterns of bash are in the text, in this
# order.
expect() {
    local where=$1 text=$2 wanted lines at=0
    mapfile -t lines <<<"$text"
    for wanted in "${@:3}"; do
        while ((at < ${#lines[@]})); do
            # shellcheck disable=SC2053 # it is a pattern
            [[ ${lines[at++]} != $wanted ]] || continue 2
        done
        fail "$where: no line '$wanted' where it should be, in:" "$text"
    done
}

# What `creel fibers` prints, line by line.
listed=(
    'thread 1 (LWP *) "*":'
    '  main (#*) waits for its 4 children'
    '    sleeper (#*, spawned at *gdb/program.cpp:*) in outer waits for a sleep'
    '    visitor (#*, spawned at *gdb/program.cpp:*) in outer waits for mutex made at *gdb/program.cpp:*'
    '    server (#*, spawned at *gdb/program.cpp:*) in outer waits for its 2 children'
    '      doorman (#*, spawned at *gdb/program.cpp:*) in inner waits for accept on descriptor *'
    '      task (#*, spawned at *gdb/program.cpp:*) in inner waits for queue made at *gdb/program.cpp:*'
    '    watcher (#*, spawned at *gdb/program.cpp:*) in outer runs'
    '  Boost fiber (#*) waits for a sleep'
    'thread 3 (LWP *) "*":'
    '  main (#*) waits for its child'
    '    far sleeper (#*, spawned at *gdb/program.cpp:*) in annex waits for a sleep'
)

# The frames of a fiber, from the innermost: of its own functions and of creel's public ones.
unwound=(
    'sleeper (#*) in outer waits for a sleep'
    '#*creel::this_fiber::sleep_for*'
    '#*nap*'
    '#*take_a_nap*'
    'visitor (#*) in outer waits for mutex made at *'
    '#*creel::sync::mutex::*'
    '#*knock*'
    'doorman (#*) in inner waits for accept on descriptor *'
    '#*creel::io::tcp_listener::accept*'
    '#*greet*'
    'watcher (#*) in outer runs'
    '#*look_here*'
    '#*watch*'
    'Boost fiber (#*) waits for a sleep'
    '#*creel::this_fiber::sleep_for*'
    '#*nap*'
    '#*take_a_nap*'
    'far sleeper (#*) in annex waits for a sleep'
    '#*nap*'
    '#*take_a_nap*'
)
stop=('break look_here' 'run')
all=('creel fibers' 'creel bt all')

live=$(in_gdb "$program" "${stop[@]}" "generate-core-file $work/core.gdb" "${all[@]}")
expect 'live' "$live" "${listed[@]}" "${unwound[@]}"
[[ $live != *creel::detail::* && $live != */boost/* ]] ||
    fail 'live: frames of the plumbing are shown, in:' "$live"

# A core of the kernel. Some machines write none into the folder.
{ (ulimit -c unlimited && cd "$work" && exec "$program") || true; } 2>"$work/log"
core=$(compgen -G "$work/core*" | grep -v '\.gdb$' || true)
if [[ -n $core ]]; then
    text=$(in_gdb "$program" "core-file $core" "${all[@]}")
    # It has no names of threads, and an order of its own for those that did not abort.
    in_core=("${listed[@]// \"\*\"/}")
    expect 'in a core' "$text" "${in_core[@]/thread 3/thread [23]}" "${unwound[@]/look_here/abort}"
else
    echo 'the kernel writes no core here: only that of gdb is looked at'
fi
# gdb 13 writes no memory behind a guard page of Linux 6.13, and says so. Stacks of threads are
# there.
text=$(in_gdb "$program" "core-file $work/core.gdb" 'creel fibers' 'creel bt 1')
expect "in gdb's core" "$text" 'thread 1 (LWP *):' '  main (#1) waits for its 4 children' \
    '    sleeper (#*, spawned at *gdb/program.cpp:*) in outer *' 'main (#1)*' '#*house*' '#*main*'

# Many fibers are grouped. A selected fiber is what gdb's own commands mean, until it is left or the
# program goes on.
alike='task (#*, spawned at *gdb/program.cpp:*) in outer waits for a sleep'
number_of() { sed -n "s/^ *$1 (#\([0-9]*\),.*/\1/p" <<<"$live" | head -n 1; }
sleeper=$(number_of sleeper)
watcher=$(($(number_of watcher) + 300))
text=$(in_gdb "$program" "set args 300" "${stop[@]}" 'creel fibers' 'creel bt all' 'creel fibers 5' \
    "creel fiber $sleeper" 'echo selected\n' 'bt' 'echo frame\n' 'frame' 'echo up\n' 'up' 'creel fiber off' 'echo off\n' 'bt 1' "creel fiber $sleeper" \
    "creel fiber $watcher" 'echo runs\n' 'bt 1' "creel fiber $sleeper" 'echo next\n' \
    'next' 'bt 1' "creel bt $sleeper -full" 'creel fiber 999999' 'creel bt nonsense')
expect '300 more' "$text" "  300 like $alike" '  (308, grouped: `creel fibers all` lists each)' \
    "$alike (299 more like it)" '#*take_a_nap*' \
    '(one of each group: `creel bt all -limit 0` shows all 310)' \
    '  main (#1)*' '  (303 more: `creel fibers all` lists each)'
expect 'selected' "$text" '  (303 more: *' \
    'sleeper (#*) in outer waits for a sleep' '#*sleep_for*' '#*take_a_nap*' \
    selected '#*creel::park*' '#*take_a_nap*' frame '#*sleep_for*' up '#*nap*' \
    off '#0 *look_here*' 'watcher (#*) in outer runs' runs '#0 *look_here*' next '#0 *watch*' \
    '#*creel::park*' '#*take_a_nap*' \
    'creel: there is no fiber #999999: `creel fibers` lists them' 'creel: usage: creel bt all *'

# Without debug information the symbols are enough.
objcopy --strip-debug "$program" "$work/symbols_only"
text=$(in_gdb "$work/symbols_only" "source $script" "${stop[@]}" "${all[@]}")
expect 'without debug information' "$text" "${listed[@]}" "${unwound[@]}"

# Without symbols nothing is found.
strip -o "$work/stripped" "$program"
text=$(in_gdb "$work/stripped" "source $script" 'starti' 'creel fibers')
expect 'stripped' "$text" 'creel: no symbol creel_debugger_table: *stripped*'
[[ $text != *Traceback* ]] || fail "$text"
