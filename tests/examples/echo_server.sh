#!/usr/bin/env bash
# Tests the echo server, $1. It sends back what it gets, on many connections at a time. A peer that
# vanishes does not disturb the others. SIGTERM ends it while a connection is open. With few
# descriptors, peers wait until others leave.
set -euo pipefail
# shellcheck source=tests/processes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../processes.sh"

start server 'echo server listens on 127.0.0.1:' "$1" 0

exec {first}<>"/dev/tcp/127.0.0.1/$port"
exec {second}<>"/dev/tcp/127.0.0.1/$port"
for ((i = 0; i < 3; ++i)); do
    for connection in "$second" "$first"; do
        echo "line $i on $connection" >&"$connection"
        read -r -t 10 -u "$connection" line || fail "no answer to line $i"
        [[ $line == "line $i on $connection" ]] || fail "got '$line' back"
    done
done

# A megabyte is more than any buffer on the way holds. cat writes while head reads.
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

terminate "$pid"
ended 143 "$pid" "the server"
read -r -t 10 -u "$first" line && fail "the open connection got '$line' at the end"
[[ ! -s $directory/server.err ]] || fail "it complained"

# Of 40 peers at most 16 have a descriptor at a time. The others get theirs in turn.
start limited 'echo server listens on 127.0.0.1:' prlimit --nofile=32:32 "$1" 0
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
terminate "$pid"
ended 143 "$pid" "the server with few descriptors"
[[ ! -s $directory/limited.err ]] || fail "it complained of too few descriptors"
processes=()
