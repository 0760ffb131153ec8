#!/usr/bin/env bash
# Runs the echo client that is $1 against the echo server beside it.
set -euo pipefail

directory=$(mktemp -d)
server=
cleanup() {
    [[ -z $server ]] || kill -KILL "$server" 2>/dev/null || true
    rm -rf "$directory"
}
trap cleanup EXIT
fail() {
    echo "echo_client: $*" >&2
    exit 1
}

: >"$directory/out"
"$(dirname "$1")/echo_server" 0 >"$directory/out" &
server=$!
port=
for ((i = 0; i < 200; ++i)); do
    [[ $(<"$directory/out") =~ :([0-9]+)$ ]] && port=${BASH_REMATCH[1]} && break
    sleep 0.05
done
[[ -n $port ]] || fail "the server did not start"

reply=$(timeout 20 "$1" 127.0.0.1 "$port" "hello, creel") || fail "it failed"
[[ $reply == "hello, creel" ]] || fail "it printed '$reply'"

kill -TERM "$server"
wait "$server" || true
server=
if timeout 20 "$1" 127.0.0.1 "$port" "nobody" 2>"$directory/err"; then
    fail "it succeeded without a server"
fi
grep -q 'refused' "$directory/err" || fail "its error does not say why: $(<"$directory/err")"
