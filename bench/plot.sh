#!/usr/bin/env bash
# Draws the plots of docs/plots from files that ./dev bench has written. A plot is drawn when a file
# has its ids. When some of them are missing or have failed, it says so and leaves the plot as it
# is. bench/README.md lists the plots; plots.sh has them.
# Usage: plot.sh [--to FOLDER] FILE.json...
set -euo pipefail
export LC_ALL=C.UTF-8

here=$(dirname "${BASH_SOURCE[0]}")
folder=$(realpath -m --relative-to=. "$here/../docs/plots")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "plot.sh: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

need_gnuplot() {
    ! command -v gnuplot >/dev/null || return 0
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
    local package=gnuplot-nox
    command -v apt-get >/dev/null || fail 'gnuplot is missing'
    if ((EUID)); then
        command -v sudo >/dev/null ||
            fail "as root, first: apt-get install --no-install-recommends $package"
        apt=(sudo "${apt[@]}")
    fi
    say "installing $package"
    local install=("${apt[@]}" install -y --no-install-recommends "$package")
    { "${install[@]}" || { "${apt[@]}" update && "${install[@]}"; }; } >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        fail "apt-get could not install $package"
    }
}

# ---- The file of the benchmarks ------------------------------------------------------------------

declare -A context # of a key: its text
declare -A figures # of an id: "median min max"
declare -A units   # of an id
declare -A failed  # of an id: the number of rounds in which its measurement failed
declare -A rounds  # of an id: the value of each round

# read_file FILE: fills the above. A result is one line of the file.
read_file() {
    local line key pair result text='"(([^"\\]|\\.)*)"' number='(-?[0-9.]+(e[-+]?[0-9]+)?)'
    pair="^    $text: ($text|[0-9]+),?\$"
    result="^    \{\"id\": $text, \"unit\": $text, \"median\": $number, \"min\": $number, "
    result+="\"max\": $number, \"rounds\": [0-9]+, \"failed\": ([0-9]+), "
    result+="\"values\": \[([^]]*)\]\},?\$"
    context=() figures=() units=() failed=() rounds=()
    [[ -f $1 && -r $1 ]] || fail "cannot read $1"
    while IFS= read -r line; do
        if [[ $line =~ $result ]]; then
            key=${BASH_REMATCH[1]}
            figures[$key]="${BASH_REMATCH[5]} ${BASH_REMATCH[7]} ${BASH_REMATCH[9]}"
            units[$key]=${BASH_REMATCH[3]}
            failed[$key]=${BASH_REMATCH[11]}
            rounds[$key]=${BASH_REMATCH[12]//,/}
        elif [[ $line =~ $pair ]]; then
            key=${BASH_REMATCH[1]}
            context[$key]=${BASH_REMATCH[4]:-${BASH_REMATCH[3]}}
            context[$key]=${context[$key]//'\"'/'"'}
        elif [[ $line == '    '* ]]; then
            fail "$1: not understood: $line"
        fi
    done <"$1"
    ((${#figures[@]})) || fail "$1 has no results"
    for key in cpu cores kernel compiler commit command rounds; do
        [[ -n ${context[$key]:-} ]] || fail "$1 has no \"$key\" in its context"
    done
}

# commands_of FILE: what one enters to draw the plots again. Folders of the machine are left out.
commands_of() {
    local word before='' words shown='./dev bench'
    read -ra words <<<"${context[command]}"
    for word in "${words[@]:1}"; do
        [[ $before != --json ]] || word=${word##*/}
        shown+=" $word"
        before=$word
    done
    echo "$shown && bench/plot.sh ${1##*/}"
}

machine_of_file() {
    local commit=${context[commit]} dirty=''
    [[ $commit != *-dirty ]] || dirty=-dirty
    echo "${context[cpu]}, ${context[cores]} cores, ${context[kernel]}, ${context[compiler]}," \
        "commit ${commit:0:12}$dirty"
}

# ---- Drawing -------------------------------------------------------------------------------------

title=''      # of the plot
commands=''   # that draw it
machine=''    # where they ran
candidates=() # of the plot
found=''      # one of its ids that the file has
problems=()   # those of its ids that cannot be drawn

# shellcheck source=bench/plots.sh
. "$here/plots.sh"

as_xml() {
    local text=${1//'&'/'&amp;'}
    text=${text//'<'/'&lt;'}
    echo "${text//'>'/'&gt;'}"
}

# finished SVG: prints it with the plot's own title and description, and without empty groups and
# what is a default of SVG.
finished() {
    local text
    text=$(sed -zE 's/<g [^>]*>\s*<\/g>\n//g
        s/ stroke-linecap="butt" stroke-linejoin="miter"//g' "$1")
    text=${text/'<title>Gnuplot</title>'/"<title>$(as_xml "$title")</title>"}
    echo "${text/'<desc>'*'</desc>'/"<desc>$(as_xml "$commands; $machine")</desc>"}"
}

declare -A drawn # of a plot: its file

# draw PLOT FILE: returns 1 if it should draw the plot and cannot.
draw() {
    found='' problems=()
    "plot_$1" >"$work/script"
    [[ -n $found ]] || return 0
    useful=yes
    if ((${#problems[@]})); then
        say "$1.svg is not drawn from $2:"
        printf '    %s\n' "${problems[@]:0:8}" >&2
        ((${#problems[@]} <= 8)) || echo "    and $((${#problems[@]} - 8)) more" >&2
        return 1
    fi
    [[ -z ${drawn[$1]:-} ]] || fail "$2 has the figures of $1.svg, as ${drawn[$1]} has"
    need_gnuplot
    if ! gnuplot "$work/script" >"$work/svg" 2>"$work/log" || [[ -s $work/log ]]; then
        cat "$work/log" >&2
        fail "gnuplot could not draw $1.svg"
    fi
    finished "$work/svg" >"$work/finished"
    mkdir -p "$folder"
    mv "$work/finished" "$folder/$1.svg"
    drawn[$1]=$2
    say "$folder/$1.svg"
}

if [[ ${1:-} == --to ]]; then
    folder=${2:?--to wants a folder}
    shift 2
fi
(($#)) || fail 'usage: plot.sh [--to FOLDER] FILE.json...'
status=0
for file; do
    read_file "$file"
    useful='' # yes: the file has figures of a plot
    commands=$(commands_of "$file")
    machine=$(machine_of_file)
    for plot in same_job_cpu same_job_latency same_job_memory parked depth; do
        draw "$plot" "$file" || status=1
    done
    [[ -n $useful ]] || fail "$file has no figures of a plot"
done
exit $status
