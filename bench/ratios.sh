#!/usr/bin/env bash
# Compares the results of two trees: the second half of compare.sh, which measures them.
#
# Usage: ratios.sh [--limit R] [--json FILE] FOLDER
#
# FOLDER has old.ids and new.ids, the ids that were to be measured, and a JSON file of the
# benchmarks for each round and family: SIDE.ROUND.NUMBER.json. Such a file has one round. It lacks
# an id whose measurement failed, and is empty when the whole run failed. The fields id, unit and
# median are enough, so that older trees can be compared.
#
# The exit status is 1 when a figure of creel is above the limit, when a measurement failed or when
# the trees have no id in common; and 3 when only a control moved by more than the limit.
set -euo pipefail
export LC_ALL=C

limit='' json=''
while (($# > 1)); do
    case $1 in
    --limit) limit=$2 ;;
    --json) json=$2 ;;
    *) break ;;
    esac
    shift 2
done
if (($# != 1)) || [[ ! -d $1 ]]; then
    echo 'Usage: ratios.sh [--limit R] [--json FILE] FOLDER' >&2
    exit 2
fi
cd "$1"
shopt -s nullglob

awk -v limit="$limit" -v json="$json" '
# The text of a field of a line of JSON, without quotes.
function field(name,    text) {
    if (!match($0, "\"" name "\": (\"[^\"]*\"|[-+.0-9e]+)"))
        return ""
    text = substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4)
    gsub(/"/, "", text)
    return text
}

# Nothing stays equal to nothing: that is a ratio of 1.
function ratio_of(one, base) {
    if (one == base)
        return 1
    return base == 0 ? infinite : one / base
}

# Sets median, least and most of values[1] to values[count].
function summarise(values, count,    i, j, value) {
    for (i = 2; i <= count; ++i) {
        value = values[i]
        for (j = i - 1; j > 0 && values[j] > value; --j)
            values[j + 1] = values[j]
        values[j + 1] = value
    }
    i = int((count + 1) / 2)
    median = count % 2 ? values[i] : (values[i] + values[i + 1]) / 2
    least = values[1]
    most = values[count]
}

function value_text(value) { return sprintf(value < 1000 ? "%.2f" : "%.0f", value) }
function ratio_text(ratio) { return ratio == infinite ? "inf" : sprintf("%.3f", ratio) }
function ratio_json(ratio) { return ratio == infinite ? "null" : sprintf("%.6g", ratio) }

# creel or creel_plain_threads; a candidate of any other name does its work without creel.
function is_creels(id) { return id ~ /^[^\/]*\/creel/ }

# The client has a part in these figures, so that they tell less than the CPU time of the server.
function is_judged(id) {
    return id !~ /^(echo|same_job)\/[^\/]*\/(rps|rate|p50|p99|p999|start)\// &&
        id !~ /^accept\/[^\/]*\/rate\/stream$/
}

# The id without its candidate: creel and the controls of a case have it in common.
function case_of(id) {
    sub(/\/[^\/]*/, "/*", id)
    return id
}

# Summarises the rounds of an id that both trees have.
function compare(id,    round, one, other, count, ratios, worse, olds, news, list) {
    count = 0
    for (round = 1; round <= rounds; ++round) {
        one = values["new", id, round]
        other = values["old", id, round]
        if (one == "" || other == "") {
            ++failed[id]
            list = list ", null"
            continue
        }
        news[++count] = one += 0
        olds[count] = other += 0
        ratios[count] = ratio_of(one, other)
        worse[count] = unit[id] == "1/s" ? ratio_of(other, one) : ratios[count]
        list = list ", " ratio_json(ratios[count])
    }
    given[id] = count
    list_of[id] = substr(list, 3)
    failures += failed[id] > 0
    if (count == 0)
        return
    summarise(olds, count)
    old_median[id] = median
    summarise(news, count)
    new_median[id] = median
    summarise(worse, count)
    worse_by[id] = median
    summarise(ratios, count)
    ratio[id] = median
    range[id] = "(" ratio_text(least) " to " ratio_text(most) ")"
    range_json[id] = "\"min\": " ratio_json(least) ", \"max\": " ratio_json(most)
    if (!is_creels(id) && is_judged(id)) {
        has_control[case_of(id)] = 1
        if (limit != "" && (worse_by[id] > limit || worse_by[id] * limit < 1))
            moved[case_of(id)] = moved[case_of(id)] "\n" id
    }
}

function print_context(side,    key, i, text) {
    for (i = 1; i <= context_count; ++i) {
        key = context_keys[i]
        if (key ~ /^(commit|compiler|flags|boost|liburing)$/)
            text = text ", " key " " (context[side, key] == "" ? "unknown" : context[side, key])
    }
    print side ": " substr(text, 3)
}

function print_table(    i, id, width) {
    for (i = 1; i <= id_count; ++i)
        if (length(ids[i]) > width)
            width = length(ids[i])
    printf "\n  %-*s %12s %12s  %-12s %8s %18s  rounds\n", width, "id (* does without creel)", \
        "old", "new", "unit", "new/old", "range"
    for (i = 1; i <= id_count; ++i) {
        id = ids[i]
        if (!(("old", id) in exists) || !(("new", id) in exists))
            continue
        if (given[id])
            printf "%s %-*s %12s %12s  %-12s %7sx %18s  %d%s\n", is_creels(id) ? " " : "*", \
                width, id, value_text(old_median[id]), value_text(new_median[id]), unit[id], \
                ratio_text(ratio[id]), range[id], given[id], failed[id] ? " of " rounds : ""
        else
            printf "%s %-*s has no round in which both were measured\n", is_creels(id) ? " " : "*", \
                width, id
    }
}

# Names the ids of one side, and the rounds that failed.
function print_gaps(    i, id, round, lines) {
    for (i = 1; i <= id_count; ++i) {
        id = ids[i]
        if (!(("old", id) in exists))
            lines = lines "only new has " id "\n"
        else if (!(("new", id) in exists))
            lines = lines "only old has " id "\n"
        else
            for (round = 1; round <= rounds; ++round) {
                if (values["old", id, round] == "")
                    lines = lines id " FAILED in round " round " of old, which does not count\n"
                if (values["new", id, round] == "")
                    lines = lines id " FAILED in round " round " of new, which does not count\n"
            }
    }
    printf "%s%s", lines == "" ? "" : "\n", lines
}

# Names the controls that moved, and what they leave undecided.
function print_moved(key,    controls, count, i) {
    count = split(substr(moved[key], 2), controls, "\n")
    for (i = 1; i <= count; ++i)
        print controls[i] " does without creel and is " ratio_text(ratio[controls[i]]) \
            "x itself: more than the limit, so this run decides nothing about " key
}

# Says which figures of creel are above the limit. Returns the exit status, to which failed
# measurements may add.
function judge(    i, id, key, judged, above, missing, uncontrolled, undecided, told) {
    print "\nWhat creel may take: " limit " times the old, by the median of the ratios within a round"
    for (i = 1; i <= id_count; ++i) {
        id = ids[i]
        key = case_of(id)
        if (!(id in given) || !is_creels(id) || !is_judged(id))
            continue
        ++judged
        if (!given[id]) {
            print id " has no round in which both were measured: MISSED"
            ++missing
        } else if (worse_by[id] > limit) {
            print id " is " ratio_text(worse_by[id]) "x" \
                (unit[id] == "1/s" ? " (old/new: more is better)" : "") ": ABOVE the limit"
            ++above
        }
        if (key in moved) {
            ++undecided
            if (!told[key]++)
                print_moved(key)
        } else if (!has_control[key] && unit[id] != "instructions")
            ++uncontrolled
    }
    if (uncontrolled)
        print "without a control, which would show the noise: " uncontrolled " of " judged
    if (undecided)
        print "undecided, because a control moved: " undecided " of " judged \
            "; repeat it on an idle machine, with more rounds"
    print judged - above - missing " of " judged + 0 " figures of creel are within the limit"
    return above || !judged ? 1 : undecided ? 3 : 0
}

function write_context(side,    i, key, text) {
    for (i = 1; i <= context_count; ++i) {
        key = context_keys[i]
        if ((side, key) in context_json && key !~ /^(command|rounds)$/) # those of one round
            text = text ",\n    \"" key "\": " context_json[side, key]
    }
    printf "  \"%s\": {%s\n  },\n", side, substr(text, 2) >json
}

function write_json(    i, id, separator, lists) {
    print "{" >json
    write_context("old")
    write_context("new")
    printf "  \"limit\": %s,\n  \"results\": [", limit == "" ? "null" : limit >json
    for (i = 1; i <= id_count; ++i) {
        id = ids[i]
        if (!(("old", id) in exists))
            lists["new"] = lists["new"] ", \"" id "\""
        else if (!(("new", id) in exists))
            lists["old"] = lists["old"] ", \"" id "\""
        else {
            printf "%s\n    {\"id\": \"%s\", ", separator, id >json
            if (given[id])
                printf "\"unit\": \"%s\", \"old\": %.10g, \"new\": %.10g, \"ratio\": %s, %s, ", \
                    unit[id], old_median[id], new_median[id], ratio_json(ratio[id]), \
                    range_json[id] >json
            printf "\"rounds\": %d, \"failed\": %d, \"ratios\": [%s]}", given[id], failed[id], \
                list_of[id] >json
            separator = ","
        }
    }
    printf "\n  ],\n  \"only_old\": [%s],\n", substr(lists["old"], 3) >json
    printf "  \"only_new\": [%s]\n}\n", substr(lists["new"], 3) >json
}

BEGIN {
    infinite = 1e300
    for (i = 1; i < ARGC; ++i) {
        split(ARGV[i], part, ".")
        if (part[3] != "" && part[2] + 0 > rounds)
            rounds = part[2] + 0
    }
}

FNR == 1 {
    split(FILENAME, part, ".")
    side = part[1]
    is_list = part[2] == "ids"
    round = part[2] + 0
}

is_list || /^    \{"id": / {
    id = is_list ? $0 : field("id")
    if (!(("old", id) in exists) && !(("new", id) in exists)) {
        if (!is_list)
            next # it was measured and not asked for
        ids[++id_count] = id
    }
    exists[side, id] = 1
    if (!is_list) {
        unit[id] = field("unit")
        values[side, id, round] = field("median")
    }
    next
}

/^    "/ {
    text = $0
    sub(/,$/, "", text)
    match(text, /": /)
    key = substr(text, 6, RSTART - 6)
    text = substr(text, RSTART + 3)
    if (!((side, key) in context)) {
        if (!(key in known_key)) {
            known_key[key] = 1
            context_keys[++context_count] = key
        }
        context_json[side, key] = text
        gsub(/^"|"$/, "", text)
        context[side, key] = text
    }
}

END {
    for (i = 1; i <= id_count; ++i)
        if (("old", ids[i]) in exists && ("new", ids[i]) in exists) {
            ++common
            compare(ids[i])
        }
    print_context("old")
    print_context("new")
    for (i = 1; i <= context_count; ++i) {
        key = context_keys[i]
        if (key ~ /^(compiler|flags|boost|liburing)$/ && context["old", key] != context["new", key])
            print "the trees differ in their " key ", which has its share in the ratios"
    }
    if (common)
        print_table()
    print_gaps()
    if (!common)
        print "there is nothing to compare: no id is in both trees"
    status = !common || failures ? 1 : 0
    if (limit != "" && common) {
        judged = judge()
        status = status ? status : judged
    }
    if (json != "")
        write_json()
    exit status
}' new.ids old.ids {new,old}.*.*.json
