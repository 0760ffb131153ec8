#!/usr/bin/env bash
# Tests the comparison of two trees, $1 (bench/ratios.sh), with planted results.
set -euo pipefail

ratios=$1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
planted=$directory/planted
fail() {
    echo "ratios: $*" >&2
    cat "$directory/out" "$directory/json" >&2
    exit 1
}

# plant SIDE UNIT ID VALUE...: one value for each round; - is a round that failed.
plant() {
    local side=$1 unit=$2 id=$3 round=0 value
    shift 3
    echo "$id" >>"$planted/$side.ids"
    for value; do
        ((++round <= rounds)) || rounds=$round
        [[ $value != - ]] || continue
        echo "    {\"id\": \"$id\", \"unit\": \"$unit\", \"median\": $value}" \
            >>"$planted/$side.$round.0.results"
    done
}

# compare STATUS ARGUMENT...: compares what was planted, and must end with this status.
compare() {
    local side round status=0
    for side in old new; do
        touch "$planted/$side.ids"
        for ((round = 1; round <= rounds; ++round)); do
            touch "$planted/$side.$round.0.results"
            printf '%s\n' '{' '  "context": {' '    "compiler": "gcc 12.2.0",' \
                "    \"commit\": \"$side\"," '    "rounds": 1' '  },' '  "results": [' \
                "$(<"$planted/$side.$round.0.results")" '  ]' '}' >"$planted/$side.$round.0.json"
        done
    done
    bash "$ratios" "${@:2}" "$planted" >"$directory/out" 2>&1 || status=$?
    [[ $status == "$1" ]] || fail "status $status, not $1"
    sed 's/   */ /g' "$directory/out" >"$directory/spaced"
}

again() {
    rm -rf "$planted"
    mkdir "$planted"
    rounds=0 # as many as an id has values
}

says() { grep -qF -- "$1" "$directory/spaced" || fail "it does not say: $1"; }
says_not() { if grep -qF -- "$1" "$directory/spaced"; then fail "it says: $1"; fi; }
touch "$directory/json"

# Equal, and slower: the median of the ratios within a round decides, and not that of the medians.
again
plant old ns switch/creel/fibers:2 10 20 30
plant new ns switch/creel/fibers:2 10 20 30
plant old ns switch/creel/fibers:100 1 10 100
plant new ns switch/creel/fibers:100 3 4 50
plant old ns switch/boost_fiber/fibers:2 50 50 50
plant new ns switch/boost_fiber/fibers:2 50.5 50 49.5
compare 0
says 'old: compiler gcc 12.2.0, commit old'
says ' switch/creel/fibers:2 20.00 20.00 ns 1.000x (1.000 to 1.000) 3'
says ' switch/creel/fibers:100 10.00 4.00 ns 0.500x (0.400 to 3.000) 3'
says '* switch/boost_fiber/fibers:2 50.00 50.00 ns 1.000x (0.990 to 1.010) 3'
compare 0 --limit 1.02
says 'without a control, which would show the noise: 1 of 2'
says '2 of 2 figures of creel are within the limit'
says_not undecided

# The median of an even number is between two.
again
plant old ns switch/creel/fibers:2 10 10
plant new ns switch/creel/fibers:2 10 12
compare 0
says ' switch/creel/fibers:2 10.00 11.00 ns 1.100x (1.000 to 1.200) 2'

# A limit judges something, or is not kept.
again
plant old ns switch/boost_fiber/fibers:2 1
plant new ns switch/boost_fiber/fibers:2 1
compare 0
compare 1 --limit 1.02
says '0 of 0 figures of creel are within the limit'

# A limit is passed, and kept at its very value.
again
plant old instructions spawn/creel/join/instructions 100
plant new instructions spawn/creel/join/instructions 102
compare 0
compare 1 --limit 1.01
says 'spawn/creel/join/instructions is 1.020x: ABOVE the limit'
says '0 of 1 figures of creel are within the limit'
says_not 'without a control'
compare 0 --limit 1.02

# What was measured and not asked for is left out.
cp "$planted/old.ids" "$directory/ids"
plant old instructions spawn/creel/not_wanted 1
cp "$directory/ids" "$planted/old.ids"
compare 0
says_not not_wanted

# Of a rate more is better.
again
plant old 1/s accept/creel/rate 100 100 100
plant new 1/s accept/creel/rate 80 80 80
compare 1 --limit 1.02
says ' accept/creel/rate 100.00 80.00 1/s 0.800x (0.800 to 0.800) 3'
says 'accept/creel/rate is 1.250x (old/new: more is better): ABOVE the limit'
again
plant old 1/s accept/creel/rate 80
plant new 1/s accept/creel/rate 100
compare 0 --limit 1.02

# Of an echo server its CPU time counts.
again
for figure in rps p50 p99 p999; do
    plant old x "echo/creel/$figure/connections:1/bytes:64" 1
    plant new x "echo/creel/$figure/connections:1/bytes:64" 2
done
plant old ns echo/creel/cpu/connections:1/bytes:64 5
plant new ns echo/creel/cpu/connections:1/bytes:64 5
compare 0 --limit 1.02
says '1 of 1 figures of creel are within the limit'

# A control that moves, up or down, decides nothing about its own case, and no other.
again
plant old ns spawn/creel/join 10
plant new ns spawn/creel/join 10
plant old ns spawn/boost_fiber/join 100
plant new ns spawn/boost_fiber/join 105
plant old ns spawn/creel/batch:100 10
plant new ns spawn/creel/batch:100 10
plant old ns spawn/coroutine/batch:100 100
plant new ns spawn/coroutine/batch:100 99
compare 0
compare 3 --limit 1.02
says 'spawn/boost_fiber/join does without creel and is 1.050x itself: more than the limit, so this run decides nothing about spawn/*/join'
says_not 'spawn/*/batch:100'
says 'undecided, because a control moved: 1 of 2'
compare 0 --limit 1.06
plant old ns spawn/boost_fiber/batch:100 100
plant new ns spawn/boost_fiber/batch:100 90
compare 3 --limit 1.06
says 'spawn/boost_fiber/batch:100 does without creel and is 0.900x itself'
plant old ns spawn/creel/join_wait 10
plant new ns spawn/creel/join_wait 11
compare 1 --limit 1.06

# A round that failed does not count, is named, and is a failure.
again
plant old ns park/creel/create/fibers:10000 - 10 10
plant new ns park/creel/create/fibers:10000 10 10 -
compare 1
says 'park/creel/create/fibers:10000 FAILED in round 1 of old, which does not count'
says 'park/creel/create/fibers:10000 FAILED in round 3 of new, which does not count'
says ' park/creel/create/fibers:10000 10.00 10.00 ns 1.000x (1.000 to 1.000) 1 of 3'
again
plant old ns park/creel/create/fibers:10000 10 10 10
plant new ns park/creel/create/fibers:10000 - - -
compare 1 --limit 1.02
says 'park/creel/create/fibers:10000 has no round in which both were measured: MISSED'
says '0 of 1 figures of creel are within the limit'

# Nothing stays equal to nothing; anything is more than nothing.
again
plant old '' same_job/creel/allocations/echo 0 0 0
plant new '' same_job/creel/allocations/echo 0 0 0
compare 0 --limit 1.02
plant old '' same_job/creel/allocations/chat 0 0 0
plant new '' same_job/creel/allocations/chat 1 1 1
compare 1 --limit 1.02
says 'same_job/creel/allocations/chat is infx: ABOVE the limit'

# Ids of one tree only are named, and do not count. The JSON has everything.
again
plant old ns timer/creel/gone 1 1 1
plant new ns timer/creel/born 1 1 1
compare 1
says 'there is nothing to compare: no id is in both trees'
plant old ns timer/creel/stays 2 - 2
plant new ns timer/creel/stays 1 1 1
plant old ns timer/asio/stays - 2 2
plant new ns timer/asio/stays 3 - -
compare 1 --limit 1.5 --json "$directory/json"
says 'only old has timer/creel/gone'
says 'only new has timer/creel/born'
cmp -s "$directory/json" - <<'END' || fail 'the JSON is wrong'
{
  "old": {
    "compiler": "gcc 12.2.0",
    "commit": "old"
  },
  "new": {
    "compiler": "gcc 12.2.0",
    "commit": "new"
  },
  "limit": 1.5,
  "results": [
    {"id": "timer/creel/stays", "unit": "ns", "old": 2, "new": 1, "ratio": 0.5, "min": 0.5, "max": 0.5, "rounds": 2, "failed": 1, "ratios": [0.5, null, 0.5]},
    {"id": "timer/asio/stays", "rounds": 0, "failed": 3, "ratios": [null, null, null]}
  ],
  "only_old": ["timer/creel/gone"],
  "only_new": ["timer/creel/born"]
}
END
