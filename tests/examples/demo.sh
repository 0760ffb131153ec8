#!/usr/bin/env bash
# Tests the demo, $1: the whole show, then hostile and unusual HTTP against a server of the demo,
# the drain, and loads that must fail.
set -euo pipefail
# shellcheck source=tests/processes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../processes.sh"

demo=$1
for tool in curl wrk; do
    command -v "$tool" >/dev/null || { echo "demo: this test needs $tool" >&2 && exit 1; }
done
ready='listening on 127.0.0.1:'

alive() { # PID: the process exists and is not a zombie
    local state
    state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) && [[ $state != Z* ]]
}

# gone PID...: waits until all of the processes have ended.
gone() {
    local process i
    for process; do
        for ((i = 0; i < 200; ++i)); do
            alive "$process" || break
            sleep 0.05
        done
        if alive "$process"; then fail "process $process was left behind"; fi
    done
}

# send CONNECTION TEXT: sends a format of printf in one write (printf alone writes line by line).
send() {
    printf "$2" >"$directory/text"
    cat "$directory/text" >&"$1"
}

# exchange TEXT: sends the text on a new connection and prints the reply until the server closes it.
exchange() {
    local connection
    exec {connection}<>"/dev/tcp/127.0.0.1/$port"
    send "$connection" "$1"
    timeout 20 cat <&"$connection" || fail "the connection stayed open after: ${1:0:60}"
    exec {connection}>&-
}

# expect STATUS WHAT TEXT: the first reply to the text must have this status.
expect() {
    local reply
    reply=$(exchange "$3")
    [[ $reply == "HTTP/1.1 $1 "* ]] || fail "$2: not $1 but '${reply:0:200}'"
}

repeat() { # TEXT TIMES
    local i
    for ((i = 0; i < $2; ++i)); do printf '%s' "$1"; done
}

# load_fails WORDS ARGUMENT...: a load of one second on the server at $port must fail with these
# words.
load_fails() {
    local words=$1 status=0
    shift
    timeout 60 "$demo" load --port "$port" --seconds 1 "$@" >"$directory/load.out" \
        2>"$directory/load.err" || status=$?
    ((status == 1)) || fail "a load that should fail ended with status $status, not: $words"
    grep -q -- "$words" "$directory/load.err" || fail "the load generator does not say: $words"
}

stat() { # NAME: prints this number of /stats
    local json
    json=$(exchange 'GET /stats HTTP/1.0\r\n\r\n')
    [[ $json =~ "\"$1\": "([0-9]+) ]] || fail "/stats has no $1: $json"
    echo "${BASH_REMATCH[1]}"
}

# The slow parts run beside the others: a load on a server that never answers, and a server whose
# handler takes longer than the server waits for it.
start mute "$ready" "$demo" backend 0
mute=$pid
kill -STOP "$mute"
"$demo" load --port "$port" --seconds 1 --connections 3 >"$directory/mute_load.out" \
    2>"$directory/mute_load.err" &
mute_load=$!
processes+=("$mute_load")
start endless "$ready" "$demo" server --backends "$port,$port,$port" --port 0 --deadline-ms 3600000
endless=$pid
exec {unanswered}<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /page?id=5 HTTP/1.1\r\nHost: x\r\n\r\n' >&"$unanswered"

# The show, once. It has few connections and a long deadline, because with a sanitizer on a busy
# machine each connection must still get its pages in time.
patiently=(--deadline-ms 5000)
timeout 120 "$demo" --once --seconds 1 --connections 8 "${patiently[@]}" >"$directory/once.out" \
    2>"$directory/once.err" || fail "--once failed with status $?"
for words in 'requests per second' 'p99.9' 'timeouts' 'lived in the server' 'drained'; do
    grep -q -- "$words" "$directory/once.out" || fail "the report does not say: $words"
done
[[ ! -s $directory/once.err ]] || fail "--once complained"

# It goes on serving until a signal, and leaves no process behind.
start show 'Ctrl-C ends it' "$demo" --seconds 1 --connections 4 --port 0 "${patiently[@]}"
children=($(<"/proc/$pid/task/$pid/children"))
((${#children[@]} == 4)) || fail "not four processes but ${#children[@]}"
[[ $(<"$directory/show.out") =~ "server on 127.0.0.1:"([0-9]+) ]] || fail 'where is the server?'
port=${BASH_REMATCH[1]}
terminate "$pid"
ended 143 "$pid" 'the show'
grep -q '^drained' "$directory/show.out" || fail 'the show did not drain'
gone "${children[@]}"

# When one of its processes dies, it says which one and fails.
start broken 'Ctrl-C ends it' "$demo" --seconds 1 --connections 4 --port 0 "${patiently[@]}"
children=($(<"/proc/$pid/task/$pid/children"))
kill -KILL "${children[1]}"
ended 1 "$pid" 'the show without a backend'
grep -q 'backend .* ended with status 137' "$directory/broken.err" || fail 'it does not say who died'
gone "${children[@]}"

# When the show itself is killed, its processes end too.
start killed 'Ctrl-C ends it' "$demo" --seconds 1 --connections 4 --port 0 "${patiently[@]}"
children=($(<"/proc/$pid/task/$pid/children"))
kill -KILL "$pid"
wait "$pid" 2>/dev/null || true
gone "${children[@]}"

# A signal at any moment of the start ends it soon, with the status of that signal. (TSan loses some
# signals: then it runs to the end.)
for delay in 0.004 0.008 0.012 0.016 0.024 0.032 0.048 0.064; do
    "$demo" --once --seconds 1 --connections 1 --port 0 "${patiently[@]}" >"$directory/early.out" \
        2>"$directory/early.err" &
    pid=$!
    processes+=("$pid")
    sleep "$delay"
    kill -TERM "$pid" 2>/dev/null || true
    status=0
    wait "$pid" || status=$?
    ((status == 143 || status == 0)) || fail "SIGTERM after $delay s gave status $status"
done

# A server with backends that are never late.
ports=
backends=()
for index in 0 1 2; do
    start "backend$index" "$ready" "$demo" backend "$index" --latency-ms 1
    ports+=${ports:+,}$port
    backends+=("$pid")
done
start server "$ready" "$demo" server --backends "$ports" --port 0 --deadline-ms 10000
server=$pid

host='Host: x\r\n'
expect 200 'the page' "GET / HTTP/1.1\r\n${host}Connection: close\r\n\r\n"
expect 200 'HTTP/1.0 without a host' 'GET / HTTP/1.0\r\n\r\n'
expect 200 'empty lines first' "\r\n\r\nGET / HTTP/1.1\r\n${host}Connection: close\r\n\r\n"
expect 404 'an unknown path' "GET /nothing HTTP/1.1\r\n${host}Connection: close\r\n\r\n"
expect 405 'a wrong method' "DELETE / HTTP/1.1\r\n${host}Connection: close\r\n\r\n"
expect 400 'a wrong number' "GET /page?id=x HTTP/1.1\r\n${host}Connection: close\r\n\r\n"
expect 400 'no host' 'GET / HTTP/1.1\r\n\r\n'
expect 400 'two hosts' "GET / HTTP/1.1\r\n$host$host\r\n"
expect 400 'garbage' '\001\002\003 garbage\r\n\r\n'
expect 400 'a TLS hello' '\026\003\001\002\000\001\000\001\374\003\003'
expect 505 'a version to come' "GET / HTTP/3.0\r\n$host\r\n"
expect 400 'a space in a field name' "GET / HTTP/1.1\r\n${host}A b: c\r\n\r\n"
expect 400 'two lengths' \
    "POST /echo HTTP/1.1\r\n${host}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"
expect 400 'length and chunks' \
    "POST /echo HTTP/1.1\r\n${host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
expect 400 'an encoding of unclear length' \
    "POST /echo HTTP/1.1\r\n${host}Transfer-Encoding: chunked, gzip\r\n\r\n"
expect 400 'a chunk of no size' \
    "POST /echo HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"
expect 501 'an encoding unknown' \
    "POST /echo HTTP/1.1\r\n${host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
expect 400 'chunks twice' "POST /echo HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\
Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
expect 501 'an unknown method' "FOO / HTTP/1.1\r\n$host\r\n"
expect 400 'a host with a space' 'GET / HTTP/1.1\r\nHost: a b\r\n\r\n'
expect 400 'a request line without \r' "GET / HTTP/1.1\n$host\r\n"
expect 400 'lines without \r' 'GET / HTTP/1.1\nHost: x\n\n'
expect 400 'a field without \r' "GET / HTTP/1.1\r\n${host}A: b\nC: d\r\n\r\n"
expect 200 'an absolute target' \
    "GET http://x/stats HTTP/1.1\r\n${host}Connection: close\r\n\r\n"
expect 200 'an absolute target without a path' \
    "GET HTTP://x HTTP/1.1\r\n${host}Connection: close\r\n\r\n"
expect 417 'an unknown expectation' "POST /echo HTTP/1.1\r\n${host}Expect: miracles\r\n\r\n"

expect 431 'a long target' "GET /$(repeat aaaaaaaaaa 2000) HTTP/1.1\r\n$host\r\n"
expect 431 'a long field' "GET / HTTP/1.1\r\n${host}A: $(repeat aaaaaaaaaa 2000)\r\n\r\n"
expect 431 'many fields' "GET / HTTP/1.1\r\n$host$(repeat 'A: b\r\n' 3000)\r\n"
expect 413 'a large body announced' \
    "POST /echo HTTP/1.1\r\n${host}Content-Length: 9999999999\r\n\r\nabc"
expect 413 'a large chunk announced' \
    "POST /echo HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\nfffffff\r\nabc"
expect 400 'a chunk header without an end' \
    "POST /echo HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n1;$(repeat aaaaaaaaaa 2000)"

# A header that comes piece by piece has the same limit. Each piece ends one byte into a field.
exec {connection}<>"/dev/tcp/127.0.0.1/$port"
send "$connection" 'GET / HTTP/1.1\r\nA'
piece=$(repeat ': bbbbbbbbbbbb\r\nA' 180)
for ((i = 0; i < 4; ++i)); do # 12 KB
    sleep 0.05
    send "$connection" "$piece"
done
IFS= read -r -t 20 -u "$connection" line || fail 'no reply to a header that comes piece by piece'
[[ $line == 'HTTP/1.1 431 '* ]] || fail "a header that comes piece by piece: $line"
exec {connection}>&-

# The reply to HEAD has the length but no body.
reply=$(exchange "HEAD /nothing HTTP/1.1\r\n${host}Connection: close\r\n\r\n")
[[ $reply == *'Content-Length: '[1-9]* && $reply != *'There is nothing here'* ]] ||
    fail "HEAD: $reply"
for refused in 'HEAD / HTTP/1.1\r\n\r\n' "HEAD / HTTP/3.0\r\n$host\r\n"; do
    reply=$(exchange "$refused")
    [[ $reply == *'Content-Length: '[1-9]* && $reply != *$'\r\n\r\n'* ]] ||
        fail "a refused HEAD: $reply"
done

# A request that comes byte by byte, with a body in chunks.
chunked='POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n'
text=$(printf "${chunked}5\r\nhello\r\n3;x=y\r\n, w\r\n0\r\nT: v\r\n\r\n.")
text=${text%.}
exec {connection}<>"/dev/tcp/127.0.0.1/$port"
for ((i = 0; i < ${#text}; ++i)); do printf '%s' "${text:i:1}" >&"$connection"; done
reply=$(timeout 20 cat <&"$connection")
exec {connection}>&-
[[ $reply == 'HTTP/1.1 200 '*'hello, w' ]] || fail "byte by byte: $reply"

# The same with a body without chunks: "0\r\n", and then one byte at a time.
text=$(printf "${chunked}0\r\n.")
exec {connection}<>"/dev/tcp/127.0.0.1/$port"
printf '%s' "${text%.}" >&"$connection"
sleep 0.1
printf '\r' >&"$connection"
sleep 0.1
printf '\n' >&"$connection"
reply=$(timeout 20 cat <&"$connection")
exec {connection}>&-
[[ $reply == 'HTTP/1.1 200 '*'Content-Length: 0'* ]] || fail "an empty chunked body: $reply"

# Ten requests in one piece get ten replies in order.
requests=
for ((i = 1; i <= 9; ++i)); do requests+="GET /page?id=$i HTTP/1.1\r\n$host\r\n"; done
requests+="GET /page?id=10 HTTP/1.1\r\n${host}Connection: close\r\n\r\n"
order=$(exchange "$requests" | sed -n 's/^page \([0-9]*\)\r*$/\1/p' | tr '\n' ' ')
[[ $order == '1 2 3 4 5 6 7 8 9 10 ' ]] || fail "pipelined: $order"

# A request after a body, and a request that waits for 100 Continue.
reply=$(exchange \
    "POST /echo HTTP/1.1\r\n${host}Content-Length: 3\r\n\r\nabcGET /nothing HTTP/1.0\r\n\r\n")
[[ $reply == 'HTTP/1.1 200 '*'abcHTTP/1.1 404 '* ]] || fail "a request behind a body: $reply"
exec {connection}<>"/dev/tcp/127.0.0.1/$port"
send "$connection" \
    "POST /echo HTTP/1.1\r\n${host}Connection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
IFS= read -r -t 20 -u "$connection" line || fail 'no word to go on'
[[ $line == 'HTTP/1.1 100 Continue'* ]] || fail "instead of 100: $line"
printf 'abc' >&"$connection"
reply=$(timeout 20 cat <&"$connection")
exec {connection}>&-
[[ $reply == *'HTTP/1.1 200 '*abc ]] || fail "after 100: $reply"

# Peers that vanish in the middle of a request, and one that never sends anything.
exec {silent}<>"/dev/tcp/127.0.0.1/$port"
for text in 'G' 'GET / HTTP/1.1\r\nHo' \
    "POST /echo HTTP/1.1\r\n${host}Content-Length: 100\r\n\r\nabc" \
    "GET / HTTP/1.1\r\n$host\r\n"; do
    for ((i = 0; i < 20; ++i)); do
        exec {connection}<>"/dev/tcp/127.0.0.1/$port"
        send "$connection" "$text"
        exec {connection}>&-
    done
done
for ((i = 0; i < 200; ++i)); do # two are left: the silent peer and the one that asks for /stats
    (($(stat open_connections) <= 2)) && break
    sleep 0.05
done
(($(stat open_connections) <= 2)) || fail "connections stayed: $(stat open_connections)"
(($(stat failed_parts) == 0)) || fail 'a part failed though every backend was well'
exec {silent}>&-

page=$(curl -sS --max-time 20 "http://127.0.0.1:$port/page?id=7") || fail 'curl failed'
    [[ $page == 'page 7'*'reviews: 7 '* ]] || fail "curl got: $page"
    curl -sS --max-time 20 --http1.0 -o "$directory/page" "http://127.0.0.1:$port/" ||
        fail 'curl --http1.0 failed'
    head -c 60000 /dev/urandom >"$directory/body"
    curl -sS --max-time 20 --data-binary "@$directory/body" -o "$directory/page" \
        "http://127.0.0.1:$port/echo" || fail 'curl could not post'
    cmp -s "$directory/body" "$directory/page" || fail 'the posted body came back changed'
for expectation in 'Expect: 100-continue' 'Expect:'; do # the second sends the body at once
    head -c 30000000 /dev/zero >"$directory/body"
    code=$(curl -sS --max-time 20 -H "$expectation" --data-binary "@$directory/body" -o "$directory/page" \
        -w '%{http_code}' "http://127.0.0.1:$port/echo") || fail 'curl lost the reply to a large body'
    [[ $code == 413 ]] || fail "a large body gave curl $code"
done
wrk -t1 -c64 -d1 "http://127.0.0.1:$port/" >"$directory/wrk.out" 2>&1 || fail 'wrk failed'
    grep -q 'requests in' "$directory/wrk.out" || fail 'wrk had no replies'
    if grep -E 'Non-2xx|Socket errors' "$directory/wrk.out"; then fail 'wrk saw errors'; fi

terminate "$server"
ended 0 "$server" 'the server'
grep -q '^drained:' "$directory/server.out" || fail 'the server did not say that it drained'
[[ ! -s $directory/server.err ]] || fail 'the server complained'

# The drain: a request that is in flight when the signal comes is answered.
start slow "$ready" "$demo" backend 0 --latency-ms 2000
slow=$port
slow_process=$pid
start drained "$ready" "$demo" server --backends "$slow,$slow,$slow" --port 0 --deadline-ms 4000
server=$pid
exec {busy}<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /page?id=5 HTTP/1.1\r\nHost: x\r\n\r\n' >&"$busy"
for ((i = 0; i < 100; ++i)); do
    (($(stat requests_in_flight) == 2)) && break # this request and the one that asks for /stats
done
terminate "$server"
reply=$(timeout 20 cat <&"$busy") || fail 'the connection stayed open after the drain'
[[ $reply == 'HTTP/1.1 200 '*'Connection: close'*'page 5'* ]] || fail "while draining: $reply"
ended 0 "$server" 'the drained server'
grep -q ' 1 of them after the signal' "$directory/drained.out" || fail 'it counted another drain'

# A load that gets wrong answers fails: all three backends are the same one.
start wrong "$ready" "$demo" server --backends "$slow,$slow,$slow" --port 0 --deadline-ms 4000
wrong=$pid
load_fails 'wrong' --connections 2

# A load also fails when it loses its server, when one or all of the backends are stuck, and when it
# gets no reply. A slow server does not make it fail.
# With the usual deadline of 50 ms a busy machine would make the other backends late as well.
deadline=(--deadline-ms 1000)
start watched "$ready" "$demo" server --backends "$ports" --port 0 "${deadline[@]}"
watched=$pid
kill -STOP "${backends[1]}"
load_fails 'backend prices owed' --connections 4 "${deadline[@]}"
kill -STOP "${backends[0]}" "${backends[2]}"
load_fails "no backend's reply reached a page" --connections 4 "${deadline[@]}"
kill -CONT "${backends[@]}"
start lost '  1 s ' "$demo" load --port "$port" --seconds 60 --connections 4
kill -KILL "$watched"
ended 1 "$pid" 'a load whose server died'
grep -q '[1-4] replies were lost' "$directory/lost.err" || fail 'it does not say that it lost any'
ended 1 "$mute_load" 'a load without a reply'
grep -q 'idle: only 0 replies for 3' "$directory/mute_load.err" || fail 'it does not say: idle'
kill -CONT "$mute"
slow_ports=
for index in 0 1 2; do
    start "late$index" "$ready" "$demo" backend "$index" --latency-ms 800
    slow_ports+=${slow_ports:+,}$port
    backends+=("$pid")
done
start late "$ready" "$demo" server --backends "$slow_ports" --port 0 --deadline-ms 9000
late=$pid
# Bug: clients that took longer to connect than the load lasts asked nothing, and the load was idle.
timeout 60 "$demo" load --port "$port" --seconds 0 --connections 64 >"$directory/load.out" \
    2>"$directory/load.err" || fail 'a slow server was taken for an idle one'

# The request whose handler took too long got a 503, which does not count as an answer.
reply=$(timeout 20 cat <&"$unanswered") || fail 'a request was never answered'
[[ $reply == 'HTTP/1.1 503 '*'Connection: close'* ]] || fail "instead of 503: $reply"
terminate "$endless"
ended 0 "$endless" 'the server whose handler took too long'
grep -q '^drained: 0 requests answered' "$directory/endless.out" || fail 'it counted a 503'

for process in "$mute" "$wrong" "$late" "$slow_process" "${backends[@]}"; do
    terminate "$process"
    ended 0 "$process" 'a server'
done
processes=()
