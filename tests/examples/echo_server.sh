#!/usr/bin/env bash
# Runs the echo server that is $1: what it gets comes back, many connections at a time, a peer that
# vanishes hurts nobody, SIGTERM ends it while a connection is open, and with few descriptors the
# peers it has none for wait until others leave.
set -euo pipefail

directory=$(mktemp -d)
server=
cleanup() {
    [[ -z $server ]] || kill -KILL "$server" 2>/dev/null || true
    rm -rf "$directory"
}
trap cleanup EXIT
fail() {
    echo "echo_server: $*" >&2
    cat "$directory"/* >&2
    exit 1
}

# start COMMAND...: sets server and port.
start() {
    : >"$directory/out"
    "$@" 0 >"$directory/out" 2>"$directory/err" &
    server=$!
    port=
    for ((i = 0; i < 200; ++i)); do
        [[ $(<"$directory/out") =~ ^"echo server listens on 127.0.0.1:"([0-9]+)$ ]] &&
            port=${BASH_REMATCH[1]} && return
        kill -0 "$server" 2>/dev/null || fail "it ended at once"
        sleep 0.05
    done
    fail "it did not say where it listens"
}

# Has SIGTERM end it.
terminate() {
    kill -TERM "$server"
    status=0
    wait "$server" || status=$?
    server=
    ((status == 143)) || fail "SIGTERM ended it with status $status, not 143"
}

start "$1"

exec {first}<>"/dev/tcp/127.0.0.1/$port"
exec {second}<>"/dev/tcp/127.0.0.1/$port"
for ((i = 0; i < 3; ++i)); do
    for connection in "$second" "$first"; do
        echo "line $i on $connection" >&"$connection"
        read -r -t 10 -u "$connection" line || fail "no answer to line $i"
        [[ $line == "line $i on $connection" ]] || fail "got '$line' back"
    done
done

# A megabyte, more than any buffer on the way. cat writes while head reads.
head -c 1000000 /dev/urandom >"$directory/sent"
exec {third}<>"/dev/tcp/127.0.0.1/$port"
cat "$directory/sent" >&"$third" &
writer=$!
timeout 20 head -c 1000000 <&"$third" >"$directory/received" ||
    fail "the megabyte did not come back"
wait "$writer"
cmp -s "$directory/sent" "$directory/received" || fail "the megabyte came back changed"
rm "$directory/sent" "$directory/received"
exec {third}>&-

exec {second}>&- # leaves while the first stays
echo "still there?" >&"$first"
read -r -t 10 -u "$first" line || fail "it fell silent when another connection ended"
[[ $line == "still there?" ]] || fail "got '$line' back"

terminate
read -r -t 10 -u "$first" line && fail "the open connection got '$line' at the end"
[[ ! -s $directory/err ]] || fail "it complained"

# Of 40 peers at most 16 have a descriptor at a time, and those that wait get theirs in turn.
start prlimit --nofile=32:32 "$1"
peers=()
for ((i = 0; i < 40; ++i)); do
    exec {peer}<>"/dev/tcp/127.0.0.1/$port"
    echo "peer $i" >&"$peer"
    peers+=("$peer")
done
for ((i = 0; i < 40; ++i)); do
    peer=${peers[i]}
    read -r -t 20 -u "$peer" line || fail "peer $i of 40 had no answer"
    [[ $line == "peer $i" ]] || fail "peer $i of 40 got '$line' back"
    exec {peer}>&-
done
terminate
[[ ! -s $directory/err ]] || fail "it complained of too few descriptors"
