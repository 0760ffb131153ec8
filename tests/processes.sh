# shellcheck shell=bash
# Sourced by the tests that run programs. A program NAME prints into $directory/NAME.out and
# NAME.err. At the end of the test the programs are killed and the directory is removed.

directory=$(mktemp -d)
processes=()

# Only for the test itself: a child that gets SIGTERM between fork and exec has this trap too.
cleanup() {
    [[ $BASHPID == "$$" ]] || return
    ((${#processes[@]} == 0)) || kill -KILL "${processes[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$directory"
}
trap cleanup EXIT

# fail TEXT...: ends the test with this text and what the programs have printed.
fail() {
    echo "$(basename "$0" .sh): $*" >&2
    tail -n 30 "$directory"/*.out "$directory"/*.err >&2
    exit 1
}

# start NAME TEXT COMMAND...: runs the command in the background, and returns when it has printed
# the TEXT. Sets pid, and sets port to the number behind the text.
start() {
    local name=$1 text=$2 i
    shift 2
    : >"$directory/$name.out"
    "$@" >"$directory/$name.out" 2>"$directory/$name.err" &
    pid=$!
    processes+=("$pid")
    for ((i = 0; i < 400; ++i)); do
        # shellcheck disable=SC2034 # port is for the test
        [[ $(<"$directory/$name.out") =~ $text([0-9]*) ]] && port=${BASH_REMATCH[1]} && return
        kill -0 "$pid" 2>/dev/null || fail "$name ended at once"
        sleep 0.05
    done
    fail "$name did not print: $text"
}

# terminate PID: sends SIGTERM when the process has slept for a while. TSan delays a signal that
# comes while a fiber runs, and loses it when that fiber ends.
terminate() {
    local i switches before=
    for ((i = 0; i < 500; ++i)); do
        # A process that has left its sleep and sleeps again has counted another switch.
        switches=$(sed -n 's/^State:\t[^S].*/awake/p; s/^voluntary_ctxt_switches:\t//p' \
            "/proc/$1/status")
        [[ $switches == *awake* || $switches != "$before" ]] || break
        before=$switches
        sleep 0.02
    done
    kill -TERM "$1"
}

# ended STATUS PID NAME: waits for the end of the process, and fails if it has another status.
ended() {
    local status=0
    wait "$2" || status=$?
    ((status == $1)) || fail "$3 ended with status $status, not $1"
}
