#!/usr/bin/env bash
# Tests the benchmarks, $1: the list of ids, and a very short run with its JSON. Then tests $2, the
# same frame with families that have faults.
set -euo pipefail

bench=$1
planted=$2
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
fail() {
    echo "bench: $*" >&2
    tail -n 40 "$directory"/* >&2
    exit 1
}

# run STATUS PROGRAM ARGUMENT...: the program must end with this status.
run() {
    local wanted=$1 status=0
    shift
    timeout 50 "$@" >"$directory/out" 2>"$directory/err" || status=$?
    ((status == wanted)) || fail "status $status, not $wanted: ${*:2}"
}

says() { # FILE TEXT
    grep -qF -- "$2" "$directory/$1" || fail "$1 does not say: $2"
}

# check_json ID_FILE: checks that out.json is well-formed and has the ids of the file.
check_json() {
    local number='-?[0-9.e+-]+' text='"([^"\\]|\\["\\])*"'
    local result='^    \{"id": "([^"]*)", "unit": '$text', "median": '$number', "min": '$number
    result+=', "max": '$number', "rounds": [0-9]+, "failed": [0-9]+'
    result+=', "values": \[('"$number|null)(, ($number|null))*\]\\},?\$"
    sed -E "s#$result#id \1#; s#^    $text: ($text|[0-9]+),?\$#pair#" "$directory/out.json" \
        >"$directory/seen"
    grep -v '^id ' "$directory/seen" | uniq >"$directory/frame"
    printf '%s\n' '{' '  "context": {' pair '  },' '  "results": [' '  ]' '}' |
        cmp -s - "$directory/frame" || fail 'the JSON is not well-formed'
    # There is a comma after each entry of a list but the last.
    awk '/^  +[\]}]/ && last ~ /,$/ { exit 1 }
        /^    / && last ~ /^    / && last !~ /,$/ { exit 1 }
        { last = $0 }' "$directory/out.json" || fail 'a comma of the JSON is missing, or one too many'
    sed -n 's/^id //p' "$directory/seen" | sort >"$directory/ids"
    sort "$1" | cmp -s - "$directory/ids" || fail 'the JSON has other ids than were asked for'
}

# The list has each of these ids, and no id twice.
run 0 "$bench" --list --instructions
cp "$directory/out" "$directory/list"
[[ -z $(sort "$directory/list" | uniq -d) ]] || fail 'an id is listed twice'
uring=raw_uring_pollfirst,raw_uring_multishot
eval "ids=(echo/{creel,coroutine_uring,asio_coroutine,$uring,raw_epoll}/{cpu,rps,p50,p99,p999}/connections:{1,64,512,2000}/bytes:{64,16384})"
eval "ids+=(accept/{creel,raw_uring,raw_uring_single}/{rate,cpu}{,/accepts:8,/stream})"
eval "ids+=(same_job/{creel,coroutine_uring,asio_coroutine,asio_coroutine_uring}/{cpu,rate,p50,p99,p999,\
allocations,idle_memory,busy_memory,start}/{{echo,fanout,crawler}{,:512,:2000},producer_consumer,chat})"
ids+=(switch/{creel,boost_fiber,boost_context,coroutine}/fibers:{2,100,10000}{,/instructions}
    spawn/{creel,boost_fiber,coroutine}/{join,batch:100,join_wait,batch_wait:100}{,/instructions}
    spawn/std_thread/{join,batch:100,join_wait,batch_wait:100}
    park/{creel,boost_fiber,coroutine}/{bytes,create}/{,calls:5/}fibers:{10000,100000}
    park/{creel,boost_fiber,coroutine}/{bytes,create}/fibers:1000000
    park/{creel,boost_fiber,coroutine}/create/{,calls:5/}fibers:10000/instructions
    deep/{creel,coroutine,coroutine_malloc}/calls:{1,10,100}{,/wait}
    deep/{creel,coroutine}/calls:{1,10}/throw
    deep/{creel,coroutine,coroutine_malloc}/calls:{1,10}{,/wait}/instructions
    timer/{creel,asio}/arm_cancel:100000 cancel/{creel,throw,coroutine}/fibers:100000
    scope/creel/{fail_after:100000,async_get,all:3} scope/boost_fiber/async_get
    scope/{coroutine,clock}/fail_after:100000
    mutex/{creel,boost_fiber}/{free,handover} mutex/{std_thread,atomic}/free
    semaphore/{creel,std_thread}/free event/{creel,boost_fiber,std_thread,asio_channel}/pingpong
    queue/{creel,boost_fiber,coroutine,asio_channel}/{stream:1024,pingpong:1,pingpong:0}
    queue/{creel,boost_fiber,std_thread}/{threads_stream,threads_pingpong}
    queue/creel/threads_pingpong_spin select/creel/ready:4)
for id in "${ids[@]}"; do
    grep -qxF "$id" "$directory/list" || fail "no such id: $id"
done

# A text with a $ selects by the end of the id.
run 0 "$bench" switch/creel --only 'fibers:100$' --list
printf 'switch/creel/fibers:100\n' | cmp -s - "$directory/out" || fail 'it selects other ends too'

# The ids that are listed are measured and written.
what=(semaphore --only /free --rounds 2 --quick)
run 0 "$bench" "${what[@]}" --list
cp "$directory/out" "$directory/asked"
run 0 "$bench" "${what[@]}" --json "$directory/out.json"
check_json "$directory/asked"
for key in kernel cpu compiler flags; do
    grep -q "\"$key\": \".*\"" "$directory/out.json" || fail "the context does not tell: $key"
done
if grep -E '"(compiler|flags)": "unknown' "$directory/out.json"; then fail 'it could know that'; fi
if grep '"rounds": [^2]' "$directory/out.json"; then fail 'not the rounds that were asked for'; fi

# This fails if a connection is not accepted and closed.
run 0 "$bench" accept --rounds 1 --quick

# It finds the programs, and each reply is checked.
run 0 "$bench" same_job/creel --only /echo:512 --rounds 1 --quick

# A file that cannot be written is reported before anything is measured.
run 1 "$bench" "${what[@]}" --json "$directory/missing/out.json"
says err 'cannot write'
[[ ! -s $directory/out ]] || fail 'it measured in vain'
run 2 "$bench" no_such_family

# A measurement that fails once is marked, and so is one that always fails.
run 1 "$planted" planted --json "$directory/out.json"
says err 'planted/fails_once/other failed: planted'
says err '7 measurements failed'
grep -q '^planted/fails_once/first/other .* FAILED in 1 of 3 rounds' "$directory/out" ||
    fail 'the table does not mark what failed once'
says out 'planted/fails/one  FAILED in every round'
printf 'planted/%s\n' sound/{first,second}/{one,other} fails_once/{first,second}/other \
    >"$directory/asked"
check_json "$directory/asked"
says out.json '"median": 4, "min": 4, "max": 4, "rounds": 2, "failed": 1, "values": [null, 4, 4]}'

# The median of the ratios within a round decides, and not the ratio of the medians.
run 1 "$planted" judged
sed -n 's/  */ /g; s/^judged\/mine //p' "$directory/out" >"$directory/verdicts"
says verdicts '0.500x base (0.40 to 3.00; of medians 0.400) wanted 0.45: MISSED'
says verdicts '0.500x base (0.40 to 3.00; of medians 0.400) wanted 0.50: holds'
says out 'judged/first_round has no round in common with later_rounds: MISSED'

# A wrong byte in a reply is a failure.
run 1 "$planted" echo/wrong --only connections:1/bytes:64 --rounds 1 --quick
says err 'a reply with the wrong content'
says err 'echo/wrong/connections:1/bytes:64 failed: '
says out 'FAILED in every round'
