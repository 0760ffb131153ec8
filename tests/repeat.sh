#!/usr/bin/env bash
# Looks for tests that fail by chance. Runs tests N times, and lists each test that failed or took
# more than a third of its time limit, with the number of failures and the longest time. The exit
# status is 1 if there is such a test.
# Usage: repeat.sh N [PRESET] ['NAME*']
# CREEL_BUSY=4   starts this number of processes that keep a core busy
# CREEL_JOBS=4   runs this number of tests at a time
# CREEL_CPUS=0   uses only these cores, as for taskset
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "Usage: tests/repeat.sh N [PRESET] ['NAME*']" >&2
    exit 2
fi
times=$1
shift
logs=$(mktemp -d)
busy=()
trap '((${#busy[@]} == 0)) || kill "${busy[@]}"' EXIT
confine=()
[[ -z ${CREEL_CPUS:-} ]] || confine=(taskset -c "$CREEL_CPUS")

preset=release
for argument; do
    [[ ' release dev clang asan tsan shared ' != *" $argument "* ]] || preset=$argument
done
./dev build "$preset" || exit
for ((i = 0; i < ${CREEL_BUSY:-0}; ++i)); do
    sh -c 'while :; do :; done' &
    busy+=($!)
done

for ((i = 1; i <= times; ++i)); do
    CREEL_JUNIT=$logs/$i.xml "${confine[@]}" ./dev test "$@" >"$logs/$i.log" 2>&1
    if [[ ! -s $logs/$i.xml ]]; then
        tail -n 20 "$logs/$i.log"
        exit 1
    fi
    echo "run $i of $times: $(grep -E '^[0-9]+% tests passed' "$logs/$i.log"), in$(
        sed -n 's/^Total Test time (real) =//p' "$logs/$i.log")"
done

# The time limit of each test, then its status and time in each run.
{
    ctest --test-dir "build/$preset" --show-only=json-v1 | sed -n \
        -e 's/^      "name" : "\(.*\)",$/name \1/p' \
        -e '/^          "name" : "TIMEOUT",$/{n;s/^ *"value" : \([0-9]*\).*/limit \1/p}' |
        sed 's/\\"/"/g; s/\\\\/\\/g'
    sed -n 's/^.*<testcase name="\(.*\)" classname=.* time="\(.*\)" status="\(.*\)">.*/\3 \2 \1/p' \
        "$logs"/*.xml | sed 's/&lt;/</g; s/&gt;/>/g; s/&quot;/"/g; s/&apos;/'"'"'/g; s/&amp;/\&/g'
} | awk '
    $1 == "name" { sub(/^name /, ""); name = $0; next }
    $1 == "limit" { limit[name] = $2; next }
    {
        status = $1
        seconds = $2
        sub(/^[^ ]* [^ ]* /, "")
        ++runs[$0]
        failed[$0] += status != "run"
        if (seconds > longest[$0])
            longest[$0] = seconds
    }
    END {
        for (name in runs) {
            ++tests
            if (!failed[name] && longest[name] * 3 <= limit[name])
                continue
            wavers = 1
            printf "failed %d of %d, longest %.1f s of %d s: %s\n", failed[name], runs[name], \
                longest[name], limit[name], name
        }
        if (!wavers)
            print "none of " tests " tests failed or took more than a third of its time limit"
        exit wavers || !tests
    }'
status=$?
if ((status)); then
    echo "what they printed: $logs"
else
    rm -rf "$logs"
fi
exit "$status"
