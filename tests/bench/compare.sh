#!/usr/bin/env bash
# Tests compare.sh of the folder $1 in a small repository of its own, whose benchmarks are planted:
# what each tree has and what it takes is in its files.
set -euo pipefail

bench=$1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
tree="$directory/a tree" # a space in its path
fail() {
    echo "compare: $*" >&2
    cat "$directory/out" "$directory/err" >&2
    exit 1
}

mkdir -p "$tree/bench"
cp "$bench/compare.sh" "$bench/ratios.sh" "$tree/bench"
cd "$tree"
export HOME=$directory GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL=test@localhost \
    GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL=test@localhost
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
git init --quiet
echo /build/ >.gitignore

cat >dev <<'END'
#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")"
[[ ! -e broken ]] || { echo 'planted: it does not compile' >&2; exit 1; }
mkdir -p build/release/bench
cp planted build/release/bench/creel_bench
exec build/release/bench/creel_bench "${@:2}"
END

# The planted benchmarks. The file `values` has a line "ID VALUE" for each id, and - for a
# measurement that fails.
cat >planted <<'END'
#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")/../../.."
list='' json='' selection='' end=''
arguments=$*
while (($#)); do
    case $1 in
    --help) cat help; exit ;;
    --list) list=1 ;;
    --json) json=$2; shift ;;
    --rounds) [[ $2 == 1 ]]; shift ;;
    --only) end=$2; shift ;;
    --instructions) ;;
    *) selection=$1 ;;
    esac
    shift
done
pattern="^${selection%%/*}/"
[[ $selection != */* ]] || pattern+="(${selection##*/})/" && pattern=${pattern//,/|}
[[ -n $selection ]] || pattern=.
if [[ $end != *\$ ]]; then
    end+='[^ ]*'
elif grep -qF '$' help; then
    end=${end%?}
fi
grep -E "$pattern" values | grep -E -- "$end " >build/chosen ||
    { echo 'nothing matches' >&2; exit 2; }
if [[ -n $list ]]; then
    cut -d ' ' -f 1 build/chosen
    exit
fi
echo "${PWD##*/} $arguments" >>"$LOG"
sed -n 's/^\(.*\) -$/\1 failed: planted/p' build/chosen >&2
sed -n 's/^\(.*\) \([0-9.]*\)$/    {"id": "\1", "unit": "ns", "median": \2}/p' build/chosen >"$json"
! grep -q -- '-$' build/chosen
END
chmod +x dev planted
export LOG=$directory/log

# values 'ID VALUE'...: what the benchmarks of the tree have.
values() { printf '%s\n' "$@" >values; }

commit() {
    git add -A
    git commit --quiet -m "$1"
    git tag "$1"
}

# compare STATUS ARGUMENT...: it must end with this status. Each run has a log of its own.
compare() {
    local status=0
    rm -f "$LOG"
    bash bench/compare.sh "${@:2}" >"$directory/out" 2>"$directory/err" || status=$?
    [[ $status == "$1" ]] || fail "status $status, not $1: ${*:2}"
    sed 's/   */ /g' "$directory/out" >"$directory/spaced"
}

says() { grep -qF -- "$2" "$directory/$1" || fail "$1 does not say: $2"; }

echo 'selects by the $ at an end' >help
values 'switch/creel/fibers:2 10' 'switch/boost_fiber/fibers:2 50' 'spawn/creel/join -'
commit first
echo 'knows no ends' >help
values 'switch/creel/fibers:2 10' 'switch/creel/fibers:20 5'
commit older
touch broken
commit broken
rm broken
values 'switch/creel/fibers:2 11' 'switch/creel/fibers:2/instructions 100'
echo 'selects by the $ at an end' >help
commit last
values 'switch/creel/fibers:2 12' 'switch/creel/fibers:20 5' 'switch/coroutine/fibers:2 3' \
    'switch/creel/fibers:2/instructions 100' 'spawn/creel/join 7' 'park/creel/bytes 1' # is not committed, and is what is measured
first=$(git rev-parse first)
first=${first:0:12}

# The trees take turns, and the order changes. Only what both have is compared.
compare 1 first switch/creel,coroutine --rounds 3 --limit 1.02 --json "$directory/out.json"
[[ $(cut -d ' ' -f 1 "$LOG" | tr '\n' ' ') == "$first a a $first $first a " ]] ||
    fail 'they do not take turns'
says spaced ' switch/creel/fibers:2 10.00 12.00 ns 1.200x (1.200 to 1.200) 3'
says out 'only new has switch/creel/fibers:20'
says out 'only new has switch/coroutine/fibers:2'
says out 'switch/creel/fibers:2 is 1.200x: ABOVE the limit'
says out.json '"ratio": 1.2,'

# The other tree is made once. A measurement that fails is named.
compare 1 first spawn switch --rounds 1
if grep -q 'checking out' "$directory/err"; then fail 'it is checked out again'; fi
says err 'spawn/creel/join failed: planted'
says out 'spawn/creel/join FAILED in round 1 of old, which does not count'
says spaced ' switch/creel/fibers:2 10.00 12.00 ns 1.200x'
[[ $(git status --porcelain) == ' M values' ]] || fail 'this tree has changed'

# It may be deleted.
rm -rf build/compare
compare 1 first park
says err 'checking out first'
says err 'first has nothing of park'
says err 'first has none of the ids to compare'

# A text with a $ selects the same ids where the other tree does not know it.
compare 0 older switch --rounds 1 --only 'fibers:2$'
says spaced ' switch/creel/fibers:2 10.00 12.00 ns'
if grep -q 'fibers:20' "$directory/out"; then fail 'it selects other ends too'; fi

# Instructions take one round, and nothing else is measured.
compare 0 last switch --instructions
says log '--only /instructions --instructions --rounds 1'
if grep -q 'fibers:20' "$directory/out"; then fail 'it does not count only'; fi

# What is wrong is named.
compare 2 first switch --instructions --rounds 2
compare 2 first
says err 'which families?'
compare 2 first switch --limit 0.5
says err '--limit wants a number from 1'
compare 1 first switch --json "$directory/missing/out.json"
says err 'cannot write'
compare 1 no_such switch
says err 'no commit is called no_such'
compare 1 broken switch
says err 'planted: it does not compile'
says err 'the benchmarks of broken ('
compare 1 first no_such_family
says err 'no_such_family: nothing matches'
echo 'switch/creel/fibers:2 9' >"build/compare/$first/values"
compare 1 first switch
says err 'is not first as it was committed'
