#!/usr/bin/env bash
# Tests the echo client, $1, with the echo server of the same folder.
set -euo pipefail
# shellcheck source=tests/processes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../processes.sh"

start server 'listens on 127.0.0.1:' "$(dirname "$1")/echo_server" 0

reply=$(timeout 20 "$1" 127.0.0.1 "$port" "hello, creel") || fail "it failed"
[[ $reply == "hello, creel" ]] || fail "it printed '$reply'"

terminate "$pid"
ended 143 "$pid" 'the server'
processes=()
if timeout 20 "$1" 127.0.0.1 "$port" "nobody" 2>"$directory/client.err"; then
    fail "it succeeded without a server"
fi
grep -q 'refused' "$directory/client.err" || fail "its error does not say why"
