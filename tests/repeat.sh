#!/usr/bin/env bash
# Looks for tests that fail by chance: runs the tests of a preset N times, and lists each that failed
# and each that took more than a third of its time limit, with how often and how long.
# Usage: repeat.sh N [PRESET] ['NAME*']
# CREEL_BUSY=4   beside so many processes that do nothing but keep a core busy
# CREEL_JOBS=4   so many tests at a time
# CREEL_CPUS=0   on these cores only, as for taskset
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

times=${1:?Usage: repeat.sh N [PRESET] [\'NAME*\']}
preset=${2:-release}
pattern=${3:-*}
logs=$(mktemp -d)
busy=()
trap 'kill "${busy[@]}" 2>/dev/null; rm -rf "$logs"' EXIT

./dev build "$preset" || exit
for ((i = 0; i < ${CREEL_BUSY:-0}; ++i)); do
    sh -c 'while :; do :; done' &
    busy+=($!)
done
limit=$(sed -n 's/^set(timeout \([0-9]*\))$/\1/p' "build/$preset/tests/creel_tests_fibers.cmake")
confine=()
[[ -z ${CREEL_CPUS:-} ]] || confine=(taskset -c "$CREEL_CPUS")

for ((i = 1; i <= times; ++i)); do
    "${confine[@]}" ./dev test "$preset" "$pattern" >"$logs/$i" 2>&1
    echo "run $i of $times: $(grep -E '^[0-9]+% tests passed' "$logs/$i" ||
        echo 'no tests ran'), $(sed -n 's/^Total Test time (real) = *//p' "$logs/$i")"
    # What a test that failed printed is worth keeping: it holds the seed.
    grep -E 'seed [0-9]+$|: FAILED:|^creel: |Sanitizer' "$logs/$i" | grep -B 1 -E 'FAILED|^creel: |Sanitizer'
done

# A ctest line: "  12/997 Test  #34: sync: a queue holds ... .....   Passed    0.01 sec", or ***Failed.
cat "$logs"/* | awk -v limit="$limit" '
    / Test +#[0-9]+: .* sec *$/ {
        seconds = $(NF - 1)
        name = $0
        sub(/^.* Test +#[0-9]+: /, "", name)
        passed = name ~ / Passed +[0-9.]+ sec *$/
        sub(/ *\.*( |\*\*\*)(Passed|Failed|Timeout|Exception|Not Run|Skipped|Subprocess aborted).*$/, "", name)
        ++runs[name]
        failed[name] += !passed
        if (seconds > longest[name])
            longest[name] = seconds
    }
    END {
        for (name in runs) {
            if (failed[name] || longest[name] > limit / 3) {
                printf "failed %d of %d, longest %.1f s of %d s: %s\n", failed[name], runs[name], \
                    longest[name], limit, name
                wavered = 1
            }
        }
        if (!wavered)
            print "no test failed, and none took more than a third of its " limit " s"
        exit wavered
    }'
