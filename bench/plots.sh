# shellcheck shell=bash
# shellcheck disable=SC2154 # plot.sh defines what is not defined here
# The plots of plot.sh. Each is a function that prints a script for gnuplot.

# ---- What they share -----------------------------------------------------------------------------

# The colours are those of Okabe and Ito, which colour-blind readers can tell apart.
declare -A colours=([creel]='#0072b2'
    [coroutine_uring]='#e69f00' [coroutine]='#e69f00'
    [asio_coroutine]='#009e73' [boost_fiber]='#009e73'
    [asio_coroutine_uring]='#cc79a7' [coroutine_malloc]='#cc79a7')
# gnuplot's numbers of discs, squares, triangles, and triangles on their tips.
declare -A shapes=([creel]=7
    [coroutine_uring]=5 [coroutine]=5
    [asio_coroutine]=9 [boost_fiber]=9
    [asio_coroutine_uring]=11 [coroutine_malloc]=11)
bar=5

quoted() { echo "'${1//\'/\'\'}'"; }

# page HEIGHT TITLE CANDIDATE...: begins a plot. The title and the names of the candidates are at
# the top; the commands and the machine are in small letters at the bottom.
page() {
    local one colour_list='' shape_list=''
    title=$2
    candidates=("${@:3}")
    for one in "${candidates[@]}"; do
        colour_list+="${colours[$one]} "
        shape_list+="${shapes[$one]} "
    done
    echo "height = $1
title = $(quoted "$title")
commands = $(quoted "$commands")
machine = $(quoted "$machine")
rounds = ${context[rounds]}
candidates = '${candidates[*]}'
colours = '$colour_list'
shapes = '$shape_list'"
    cat <<'GNUPLOT'
set encoding utf8
set terminal svg size 960,height font 'sans-serif,13' background rgb 'white' noenhanced
count = words(candidates)
name(i) = word(candidates, i)
colour(i) = word(colours, i)
shape(i) = int(word(shapes, i))
y_at(pixel) = pixel / (1.0 * height) # of the page, from below

set label title at screen 0.5,y_at(height - 22) center font ',15'
do for [i = 1:3] {
    set label i == 1 ? machine : i == 2 ? commands : \
        sprintf('medians of %d rounds; whiskers from the minimum to the maximum', rounds) \
        at screen 0.012,y_at(14 * i - 2) font ',10' textcolor rgb '#555555'
}
unset key
set lmargin at screen 0.09
set rmargin at screen 0.985
set tmargin at screen y_at(height - 66)
set border 3 lc rgb '#888888'
set grid y lc rgb '#dddddd' lt 1
set xtics nomirror scale 0 textcolor rgb 'black'
set ytics nomirror textcolor rgb 'black'
set style fill solid noborder

digits(value) = sprintf(value < 9.995 ? '%.2f' : value < 99.95 ? '%.1f' : '%.0f', value)
time_text(ns) = ns < 1e3 ? digits(ns).' ns' : ns < 1e6 ? digits(ns / 1e3).' µs' : \
    digits(ns / 1e6).' ms'
tic_text(ns) = ns < 1e3 ? sprintf('%g ns', ns) : ns < 1e6 ? sprintf('%g µs', ns / 1e3) : \
    sprintf('%g ms', ns / 1e6)
whole(b) = int(b + 0.5)
bytes_text(b) = b < 1000 ? sprintf('%.0f', b) : \
    sprintf('%d,%03d', whole(b) / 1000, whole(b) % 1000)
GNUPLOT
}

# block NAME UNIT FAMILY FIGURE/CASE...: the figures of all candidates, the first candidate first.
# Each line is a median, a minimum and a maximum. gnuplot has them as $NAME, with an index per
# candidate. UNIT may be a pattern.
block() {
    local one last id least
    echo "\$$1 << end"
    for one in "${candidates[@]}"; do
        for last in "${@:4}"; do
            id=$3/$one/$last
            if [[ -z ${figures[$id]:-} ]]; then
                problems+=("$id is missing: it was not measured, or failed in every round")
                continue
            fi
            # shellcheck disable=SC2034 # it is for plot.sh
            found=$id
            least=${figures[$id]#* }
            least=${least% *}
            # shellcheck disable=SC2053 # a pattern
            if ((failed["$id"])); then
                problems+=("$id failed in ${failed[$id]} rounds")
            elif [[ ${units[$id]} != $2 ]]; then
                problems+=("$id is in ${units[$id]}, not in $2")
            elif [[ $2 == ns && $least =~ ^(-|0$) ]]; then
                problems+=("$id is $least $2")
            fi
            echo "${figures[$id]}"
        done
        printf '\n\n'
    done
    echo end
}

# ratios NAME BASE FAMILY FIGURE/CASE...: as block() prints figures, the ratios of each candidate to
# the candidate BASE within a round. The figures must have passed block().
ratios() {
    local one last
    echo "\$$1 << end"
    for one in "${candidates[@]}"; do
        for last in "${@:4}"; do
            printf '%s\n' "${rounds[$3/$one/$last]:-}" "${rounds[$3/$2/$last]:-}" |
                awk 'NR == 1 { split($0, mine) }
                    NR == 2 { for (i = 1; i <= NF; ++i) print mine[i] / $i }' | sort -g |
                awk '{ ratio[NR] = $1 }
                    END { m = int((NR + 1) / 2); print (ratio[m] + ratio[NR + 1 - m]) / 2,
                        ratio[1], ratio[NR] }'
        done
        printf '\n\n'
    done
    echo end
}

# legend SHAPE: the names of the candidates, each beside its shape(i) or a $bar.
legend() {
    echo "legend_shape(i) = $1"
    cat <<'GNUPLOT'
letter = 7.3 # pixels, about
legend_x = (960 - letter * strlen(candidates) - 30 * count) / 2
do for [i = 1:count] {
    set label name(i) at screen legend_x / 960,y_at(height - 46) \
        point pt legend_shape(i) ps 1.2 lc rgb colour(i) offset 1.2,-0.3
    legend_x = legend_x + letter * strlen(name(i)) + 37
}
GNUPLOT
}

# groups ROW NAME/TEXT...: the places of the groups on the x axis. Each has its text below. Those of
# one name stand together, and have the name below in the given row.
groups() {
    local one name='' next_name x=-14 first=0 xs=''
    for one in "${@:2}" /; do
        next_name=${one%%/*}
        if [[ $next_name == "$name" ]]; then
            ((x += 10))
        else
            [[ -z $name ]] ||
                echo "set label \"${name/_/_\\n}\" at $(((first + x) / 2)),graph 0 offset 0,-$1 center
set arrow from $((x + 7)),graph 0 to $((x + 7)),graph 1 nohead lc rgb '#dddddd'"
            name=$next_name
            first=$((x += 14))
        fi
        [[ -n $name ]] || break
        echo "set label '${one#*/}' at $x,graph 0 offset 0,-1 center font ',12'"
        xs+="$x "
    done
    echo "unset xtics
set xrange [-7:$((x - 7))]
xs = '$xs'"
    cat <<'GNUPLOT'
width = 8.0 / count # of a candidate in a group
x_of(row, i) = word(xs, int(row) + 1) + width * (i - (count + 1) / 2.0)
GNUPLOT
}

# text_below ROW TEXT: left of the x axis; says what the texts in the row below it are.
text_below() { echo "set label '$2' at graph 0,graph 0 offset -1,-$1 right font ',12'"; }

# y_text TEXT: what the y axis shows.
y_text() { echo "set label '$1' at screen 0.016,graph 0.5 center rotate"; }

# panel_text TEXT: above the axes.
panel_text() { echo "set label '$1' at graph 0.5,graph 1 offset 0,0.7 center"; }

# time_axis BLOCK...: a logarithmic y axis for all of their values.
time_axis() {
    local block
    echo 'least = 1e300; most = 0'
    for block; do
        echo "stats \$$block using (least = \$2 < least ? \$2 : least, \
    most = \$3 > most ? \$3 : most) nooutput"
    done
    cat <<'GNUPLOT'
set logscale y
set yrange [least / 1.3:most * 1.3]
set ytics ()
do for [power = -1:9] {
    do for [digit in '1 2 5'] {
        set ytics add (tic_text(digit * 10.0**power) digit * 10.0**power)
    }
}
GNUPLOT
}

# bars BLOCK BY [MORE]: draws a bar with its whisker for each figure, divided BY, and MORE.
bars() {
    echo "plot for [i = 1:count] \$$1 index i - 1 using (x_of(\$0, i)):(\$1 / $2):(0.9 * width) \\
    with boxes lc rgb colour(i) title name(i), \\
    for [i = 1:count] \$$1 index i - 1 \\
    using (x_of(\$0, i)):(\$2 / $2):(0):((\$3 - \$2) / $2) \\
    with vectors nohead lc rgb '#222222' title name(i)${3:+, \\
    $3}"
}

# points BLOCK X WITH: draws a point or a line of points with whiskers.
points() {
    echo "plot for [i = 1:count] \$$1 index i - 1 using ($2):1 \\
    with $3 pt shape(i) ps 1 lw 1.5 lc rgb colour(i) title name(i), \\
    for [i = 1:count] \$$1 index i - 1 using ($2):2:(0):(\$3 - \$2) \\
    with vectors nohead lc rgb '#222222' title name(i)"
}

# ---- The plots -----------------------------------------------------------------------------------

styles=(creel coroutine_uring asio_coroutine asio_coroutine_uring)
cases=({echo,fanout,crawler}{,:512,:2000} producer_consumer chat)
case_groups=({echo,fanout,crawler}/{64,512,2000} {producer_consumer,chat}/64)

plot_same_job_cpu() {
    page 514 'CPU time per operation, as a multiple of that of coroutine_uring (lower is better)' \
        "${styles[@]}"
    legend $bar
    groups 3.6 "${case_groups[@]}"
    block data ns same_job "${cases[@]/#/cpu/}"
    ((${#problems[@]})) || ratios ratio coroutine_uring same_job "${cases[@]/#/cpu/}"
    text_below 1 tasks
    text_below 2.1 '1 ='
    y_text 'multiple of coroutine_uring'
    cat <<'GNUPLOT'
set label 'ratios within a round: their median, and whiskers from the least to the greatest' \
    at screen 0.988,y_at(26) right font ',10' textcolor rgb '#555555'
bases = ''
stats $data index 1 using (bases = bases.sprintf('%.10g ', $1), 0) nooutput
do for [i = 1:words(xs)] {
    set label time_text(real(word(bases, i))) at word(xs, i),graph 0 offset 0,-2.1 center font ',11'
}
set arrow from graph 0,first 1 to graph 1,first 1 nohead front lc rgb '#444444' dt 2
set bmargin at screen y_at(154)
set yrange [0:*]
GNUPLOT
    # shellcheck disable=SC2016 # these are gnuplot's
    bars ratio 1 '$ratio index 0 using (x_of($0, 1) + width / 2):3:(sprintf("%.2f", $1)) \
    with labels right offset 0,0.5 font ",10" textcolor rgb colour(1)'
}

plot_same_job_latency() {
    local job names=() ends=()
    for job in echo fanout crawler chat; do
        names+=("$job"/{p50,p99,p99.9})
        ends+=({p50,p99,p999}/"$job")
    done
    page 474 'Latency of an operation with 64 tasks (log scale, lower is better)' "${styles[@]}"
    legend 'shape(i)'
    groups 2.4 "${names[@]}"
    block data ns same_job "${ends[@]}"
    time_axis data
    y_text 'time of an operation'
    echo 'set bmargin at screen y_at(110)'
    points data "x_of(\$0, i)" points
}

plot_same_job_memory() {
    page 714 'Resident memory per task (lower is better)' "${styles[@]}"
    legend $bar
    # With 64 tasks small ones may fit into memory that is resident already.
    groups 2.4 {echo,fanout,crawler}/{512,2000}
    block idle 'byte*' same_job idle_memory/{echo,fanout,crawler}:{512,2000}
    block busy 'byte*' same_job busy_memory/{echo,fanout,crawler}:{512,2000}
    text_below 1 tasks
    panel_text 'after the load'
    cat <<'GNUPLOT'
set yrange [*<0:*]
set format y '%.0f KiB'
set multiplot
set tmargin at screen y_at(388)
set bmargin at screen y_at(126)
GNUPLOT
    bars busy 1024
    echo 'unset label'
    panel_text 'before the load'
    cat <<'GNUPLOT'
set tmargin at screen y_at(height - 88)
set bmargin at screen y_at(424)
GNUPLOT
    bars idle 1024
}

plot_parked() {
    local tasks='100,000 tasks, each of which waits'
    page 414 'Resident memory per task that waits (lower is better)' creel boost_fiber coroutine
    legend $bar
    groups 2.4 "$tasks"/{'in its own function','in the innermost of 5 nested calls'}
    block data 'byte*' park bytes/{,calls:5/}fibers:100000
    y_text bytes
    cat <<'GNUPLOT'
set bmargin at screen y_at(110)
set yrange [0:*]
set offsets 0,0,graph 0.1,0
GNUPLOT
    # shellcheck disable=SC2016 # these are gnuplot's
    bars data 1 'for [i = 1:count] $data index i - 1 using (x_of($0, i)):3:(bytes_text($1)) \
    with labels offset 0,0.6 font ",11"'
}

plot_depth() {
    page 494 'CPU time of a value that comes back through nested calls (log scales, lower is better)' \
        creel coroutine coroutine_malloc
    legend 'shape(i)'
    block plain ns deep calls:{1,10,100}
    block wait ns deep calls:{1,10,100}/wait
    time_axis plain wait
    y_text 'CPU time per value'
    panel_text 'no call waits'
    cat <<'GNUPLOT'
set logscale x
set xrange [0.7:140]
set xtics (1, 10, 100)
set xlabel 'nested calls'
set tmargin at screen y_at(height - 88)
set bmargin at screen y_at(110)
set multiplot
set rmargin at screen 0.5
GNUPLOT
    points plain "10.0**\$0" linespoints
    echo 'unset label'
    panel_text 'the innermost call waits once'
    cat <<'GNUPLOT'
set lmargin at screen 0.575
set rmargin at screen 0.985
GNUPLOT
    points wait "10.0**\$0" linespoints
}
