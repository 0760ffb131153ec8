#!/usr/bin/env bash
# Says what has changed since another commit: builds its benchmarks beside those of this tree,
# measures both in turn, and compares each figure with itself. See the section "Against another
# commit" in README.md.
set -euo pipefail
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
root=$(dirname "$here")

usage() {
    cat <<'TEXT'
usage: bench/compare.sh REV FAMILY[/CANDIDATE[,CANDIDATE...]]... [options]

  --only TEXT[,TEXT...]  as ./dev bench has it
  --rounds N             each measures both trees once (default: 9)
  --instructions         compare instructions and not times: one round, which repeats exactly
  --limit R              judge: creel may take R times what it takes in REV, for example 1.02
  --json FILE            write the comparison to a file
  --help                 this text

The exit status is 0; 1 when creel is above the limit or a measurement failed; 2 when the command
line is wrong; 3 when a control moved by more than the limit, so that nothing is decided.
TEXT
}

say() { echo "== $*" >&2; }

fail() {
    echo "compare.sh: $*" >&2
    exit 1
}

wrong() {
    echo "compare.sh: $*" >&2
    usage >&2
    exit 2
}

# ---- The command line ----------------------------------------------------------------------------

rounds='' instructions=() limit='' json='' only=() arguments=()
while (($#)); do
    case $1 in
    --only | --rounds | --limit | --json)
        (($# > 1)) || wrong "$1 wants a value"
        case $1 in
        --only) only+=(--only "$2") ;;
        --rounds) rounds=$2 ;;
        --limit) limit=$2 ;;
        --json) json=$(realpath -m -- "$2") ;;
        esac
        shift
        ;;
    --instructions) instructions=(--instructions) ;;
    --help | -h)
        usage
        exit
        ;;
    -*) wrong "unknown option $1" ;;
    *) arguments+=("$1") ;;
    esac
    shift
done
((${#arguments[@]} > 0)) || wrong 'which commit?'
((${#arguments[@]} > 1)) || wrong 'which families? ./dev bench --list names them'
revision=${arguments[0]}
families=("${arguments[@]:1}")
[[ ${rounds:-1} =~ ^[1-9][0-9]*$ ]] || wrong "--rounds wants a number from 1, not \"$rounds\""
[[ ${limit:-1} =~ ^[1-9][0-9]*(\.[0-9]+)?$ ]] || wrong "--limit wants a number from 1, not \"$limit\""
if ((${#instructions[@]})); then
    ((${rounds:-1} == 1)) || wrong '--instructions takes one round'
    rounds=1
    only+=(--only /instructions)
fi
rounds=${rounds:-9}
# A file that cannot be written is found before minutes of work, not after it.
[[ -z $json ]] || : >>"$json" || fail "cannot write $json"

# ---- The two trees -------------------------------------------------------------------------------

commit=$(git -C "$root" rev-parse --verify --quiet "$revision^{commit}") ||
    fail "no commit is called $revision"
tree=$root/build/compare/${commit:0:12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check_out: makes the tree of the other commit, or finds it where an earlier run has made it.
check_out() {
    local place
    if [[ ! -e $tree ]]; then
        say "checking out $revision in ${tree#"$root"/}"
        mkdir -p "${tree%/*}"
        # --force: a tree that was deleted without git may still be on its list.
        git -C "$root" worktree add --force --detach --quiet "$tree" "$commit" >&2 ||
            fail "git cannot check out $revision"
    fi
    place=$(realpath "$tree")
    if [[ $(git -C "$tree" rev-parse --show-toplevel HEAD) != "$place"$'\n'"$commit" ||
        -n $(git -C "$tree" status --porcelain) ]]; then
        fail "$tree is not $revision as it was committed: remove it with" \
            "'git worktree remove --force' or 'rm -r', and it is checked out again"
    fi
}

# build SIDE FOLDER NAME [OPTION]: the dev of each tree builds its own benchmarks. Lists all ids.
build() {
    say "building $3"
    (cd "$2" && ./dev bench --list "${@:4}") >"$work/$1.all" 2>"$work/log" || {
        tail -n 40 "$work/log" >&2
        fail "the benchmarks of $3 cannot be built, or cannot list their ids: see above"
    }
}

declare -A program names
names=([old]=$revision [new]='this tree')
program=([old]=$tree/build/release/bench/creel_bench
    [new]=$root/build/release/bench/creel_bench)
check_out
build old "$tree" "$revision (${commit:0:12})"
build new "$root" 'this tree' "${instructions[@]}"

# ---- What is measured ----------------------------------------------------------------------------

# known_to_old FAMILY[/CANDIDATE,...]: prints it without the candidates that the old tree lacks, and
# nothing if none is left.
known_to_old() {
    local candidate known=''
    if [[ $1 != */* ]]; then
        ! grep -q "^$1/" "$work/old.all" || echo "$1"
        return
    fi
    for candidate in ${1#*/}; do
        ! grep -Eq "^${1%%/*}/$candidate(/|\$)" "$work/old.all" || known+=${known:+,}$candidate
    done
    [[ -z $known ]] || echo "${1%%/*}/$known"
}

# Older benchmarks do not know the $ at the end of a text. They measure more ids then, of which only
# those are compared that the new tree measures too.
only_old=("${only[@]}")
knows_ends=1
if ! "${program[old]}" --help | grep -qF '$'; then
    knows_ends=0
    only_old=("${only[@]//\$/}")
fi

: >"$work/new.ids"
: >"$work/old.ids"
selected_old=()
for family in "${families[@]}"; do
    "${program[new]}" "$family" "${only[@]}" "${instructions[@]}" --list \
        >"$work/list" 2>"$work/log" || fail "$family: $(head -n 1 "$work/log")"
    cat "$work/list" >>"$work/new.ids"
    selected=$(IFS=, && known_to_old "$family")
    if [[ -n $selected ]] &&
        "${program[old]}" "$selected" "${only_old[@]}" "${instructions[@]}" --list \
            >"$work/list_old" 2>"$work/log"; then
        if ((knows_ends)); then
            cat "$work/list_old"
        else
            grep -xFf "$work/list" "$work/list_old" || true
        fi >>"$work/old.ids"
    else
        say "$revision has nothing of $family${selected:+: $(head -n 1 "$work/log")}"
        selected=''
    fi
    selected_old+=("$selected")
done
grep -qxFf "$work/new.ids" "$work/old.ids" || fail "$revision has none of the ids to compare"

# ---- Measuring -----------------------------------------------------------------------------------

# measure SIDE ROUND NUMBER FAMILY [OPTION...]: one round, whose file is empty if it failed as a
# whole.
measure() {
    local status=0 file=$work/$1.$2.$3.json
    : >"$file"
    say "round $2 of $rounds: $4 of ${names[$1]}"
    "${program[$1]}" "${@:4}" "${instructions[@]}" --rounds 1 --json "$file" \
        >/dev/null 2>"$work/log" || status=$?
    ((status == 0)) || {
        say "this round of ${names[$1]} failed (exit $status):"
        grep ' failed: ' "$work/log" >&2 || tail -n 5 "$work/log" >&2
    }
}

# Both trees measure a family before the next one, so that the two of a ratio are near in time.
for ((round = 1; round <= rounds; ++round)); do
    for i in "${!families[@]}"; do
        [[ -n ${selected_old[i]} ]] || continue
        sides=(old new)
        ((round % 2)) || sides=(new old)
        for side in "${sides[@]}"; do
            if [[ $side == old ]]; then
                measure old "$round" "$i" "${selected_old[i]}" "${only_old[@]}"
            else
                measure new "$round" "$i" "${families[i]}" "${only[@]}"
            fi
        done
    done
done

echo "old is $revision, new is this tree as it is"
"$here/ratios.sh" ${limit:+--limit "$limit"} ${json:+--json "$json"} "$work"
