#!/usr/bin/env bash
# Runs real programs against the examples over the loopback: wrk, h2load, nginx in front of the demo
# and behind the proxy, redis-benchmark through the proxy. Each request must be answered without an
# error. Afterwards no server holds a descriptor of a client, and nothing is left in its ring at the
# end. It is run by hand and not in CI: './dev programs' installs and builds what it needs. It takes
# a minute.
# Usage: programs.sh FOLDER   (of the built examples: build/release/examples)
set -euo pipefail
# shellcheck source=tests/processes.sh
source "$(dirname "${BASH_SOURCE[0]}")/processes.sh"

examples=$(realpath "$1")
PATH=$PATH:/usr/sbin # nginx
for tool in wrk h2load nginx redis-server redis-benchmark redis-cli; do
    command -v "$tool" >/dev/null || fail "$tool is missing; './dev programs' installs it"
done
passed=0
ok() {
    printf '%-40s %s\n' "$@"
    ((++passed))
}

# start_at_free_port NAME COMMAND...: starts a server that cannot choose a free port itself. The
# command gets one as its last argument. Sets pid and port.
start_at_free_port() {
    local name=$1 tries i
    shift
    for ((tries = 0; tries < 10; ++tries)); do
        port=$((20000 + RANDOM % 10000))
        "$@" "$port" >"$directory/$name.out" 2>"$directory/$name.err" &
        pid=$!
        for ((i = 0; i < 100; ++i)); do
            kill -0 "$pid" 2>/dev/null || break
            # The listener must be that of this process, and not of another one.
            if [[ $(sockets "$pid" "$port" 0A) != 0 ]]; then
                processes+=("$pid")
                return
            fi
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    fail "$name does not start"
}

# sockets PID PORT [STATE]: prints how many TCP sockets of the process have this local port.
sockets() {
    local inodes
    inodes=$(awk -v port="$(printf '%04X' "$2")" -v state="${3:-}" \
        '{ split($2, local, ":") } local[2] == port && (state == "" || $4 == state) { print $10 }' \
        /proc/net/tcp)
    find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | tr -dc '0-9\n' |
        grep -cxFf <(echo "${inodes:-none}") || true
}

descriptors() { find "/proc/$1/fd" -mindepth 1 | wc -l; }

# settled WHAT WANTED COMMAND...: waits until the command prints the wanted number.
settled() {
    local i
    for ((i = 0; i < 200; ++i)); do
        [[ $("${@:3}") != "$2" ]] || return 0
        sleep 0.05
    done
    fail "$1: $("${@:3}") descriptors are open, not $2"
}

# stop NAME PID: ends the process by SIGTERM, with status 0.
stop() {
    terminate "$2"
    ended 0 "$2" "$1"
}

# stop_ours NAME PID: the same for an example; nothing may be left in its ring.
stop_ours() {
    stop "$@"
    [[ $(tail -n 1 "$directory/$1.out") == 'left: 0 operations, 0 connections, 0 buffers' ]] ||
        fail "$1 left something behind"
}

# run_wrk WHAT PORT ARGUMENT...: runs wrk for two seconds. There must be no error. Adds the requests
# to asked.
run_wrk() {
    timeout 30 wrk -t1 -d2 "${@:3}" "http://127.0.0.1:$2/" >"$directory/wrk.out" 2>&1 ||
        fail "$1: wrk failed"
    if grep -E 'Non-2xx|Socket errors' "$directory/wrk.out"; then fail "$1: wrk saw errors"; fi
    requests=$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' "$directory/wrk.out")
    ((${requests:-0} > 0)) || fail "$1: wrk had no reply"
    ((asked += requests))
    ok "$1" "$requests requests, $(sed -n 's/^Requests.sec: *//p' "$directory/wrk.out") a second"
}

# run_h2load WHAT PORT REQUESTS ARGUMENT...: makes this number of requests over HTTP/1.1. Adds them
# to asked.
run_h2load() {
    timeout 60 h2load --h1 -t1 -n "$3" "${@:4}" "http://127.0.0.1:$2/" \
        >"$directory/h2load.out" 2>&1 ||
        fail "$1: h2load failed"
    grep -q "^requests: $3 total, .* $3 succeeded, 0 failed, 0 errored, 0 timeout" \
        "$directory/h2load.out" || fail "$1: h2load lost requests"
    grep -q "^status codes: $3 2xx, 0 3xx, 0 4xx, 0 5xx" "$directory/h2load.out" ||
        fail "$1: h2load had other replies"
    ((asked += $3))
    ok "$1" "$3 requests, $(sed -n 's/^finished in [^,]*, \([0-9.]*\) req.s.*/\1/p' \
        "$directory/h2load.out") a second"
}

# run_nginx NAME LOCATION PORT: with that as its only location. Becomes nginx.
run_nginx() {
    mkdir -p "$directory/$1/html"
    cat >"$directory/$1/nginx.conf" <<END
daemon off;
master_process off;
pid nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    upstream demo { server 127.0.0.1:$demo_port; keepalive 64; keepalive_requests 1000000; }
    server {
        listen 127.0.0.1:$3;
        location / { $2 }
    }
}
END
    exec nginx -p "$directory/$1" -c nginx.conf
}

# run_redis PORT: becomes Redis.
run_redis() {
    exec redis-server --bind 127.0.0.1 --port "$1" --save '' --appendonly no --dir "$directory"
}

ready='listening on 127.0.0.1:'
ports= backends=()
for index in 0 1 2; do
    start "backend$index" "$ready" "$examples/demo/demo" backend "$index" --latency-ms 1
    backends+=("$pid")
    ports+=${ports:+,}$port
done
start demo "$ready" "$examples/demo/demo" server --backends "$ports" --port 0 --deadline-ms 5000
demo=$pid demo_port=$port

asked=0
run_wrk 'wrk, demo' "$demo_port" -c64
run_wrk 'wrk, demo, a connection for each' "$demo_port" -c16 -H 'Connection: close'
run_h2load 'h2load, demo' "$demo_port" 20000 -c64
settled 'the demo' 1 sockets "$demo" "$demo_port"
start_at_free_port front run_nginx front \
    'proxy_pass http://demo; proxy_http_version 1.1; proxy_set_header Connection "";'
run_wrk 'wrk, nginx, demo' "$port" -c64
run_h2load 'h2load, nginx, demo' "$port" 20000 -c64
stop front "$pid"
settled 'the demo behind nginx' 1 sockets "$demo" "$demo_port"
stop_ours demo "$demo"
# More than wrk counts, for it ends with a request under way on each connection, at most.
answered=$(sed -n 's/^drained: \([0-9,]*\) .*/\1/p' "$directory/demo.out" | tr -d ,)
((answered >= asked && answered <= asked + 64 + 16 + 64)) ||
    fail "the demo answered $answered requests of $asked"
for index in 0 1 2; do stop "backend$index" "${backends[index]}"; done

mkdir -p "$directory/behind/html"
head -c 20000 /dev/urandom >"$directory/behind/html/index.html"
start_at_free_port behind run_nginx behind 'root html;'
nginx=$pid
start proxy 'listens on 127.0.0.1:' "$examples/proxy" 0 127.0.0.1 "$port"
proxy=$pid
before=$(descriptors "$proxy")
run_wrk 'wrk, proxy, nginx' "$port" -c64
run_wrk 'wrk, proxy, nginx, a connection for each' "$port" -c16 -H 'Connection: close'
run_h2load 'h2load, proxy, nginx' "$port" 20000 -c64
grep -q "traffic: .* (400000000) data" "$directory/h2load.out" || fail 'bytes of the page were lost'
settled 'the proxy' "$before" descriptors "$proxy"
stop_ours proxy "$proxy"
stop behind "$nginx"

start_at_free_port redis run_redis
redis_port=$port redis=$pid
start redis_proxy 'listens on 127.0.0.1:' "$examples/proxy" 0 127.0.0.1 "$redis_port"
proxy=$pid
before=$(descriptors "$proxy")
for pipeline in 1 16; do
    count=$((32000 * pipeline))
    redis-cli -p "$redis_port" config resetstat >/dev/null
    timeout 120 redis-benchmark -h 127.0.0.1 -p "$port" -c 50 -n "$count" -P "$pipeline" \
        -d 100 -t set,get -q >"$directory/redis-benchmark.out" 2>&1 || fail 'redis-benchmark failed'
    if grep -i error "$directory/redis-benchmark.out"; then fail 'redis-benchmark saw errors'; fi
    for command in set get; do
        redis-cli -p "$redis_port" info commandstats >"$directory/commandstats.out"
        grep -q "cmdstat_$command:calls=$count," "$directory/commandstats.out" ||
            fail "redis did not see $count times $command"
        rate=$(tr '\r' '\n' <"$directory/redis-benchmark.out" |
            sed -n "s/^${command^^}: \([0-9.]*\) requests.*/\1/p")
        ok "redis-benchmark -P $pipeline, proxy, redis: $command" "$count requests, $rate a second"
    done
done
settled 'the proxy of redis' "$before" descriptors "$proxy"
stop_ours redis_proxy "$proxy"
stop redis "$redis"
processes=()
echo "$passed passed, 0 failed"
