#!/usr/bin/env bash
# Finds words in comments and in Markdown that a reader stumbles over, citations of files that the
# repository does not have, lines of Markdown over 120 columns, and comments in lines of C++ over
# 100 columns. Prints each as file:line.
# Usage: prose.sh [ROOT]
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# Whole words, in any case. Each has a plain spelling that always serves: a word with a plain use of
# its own does not belong here.
words="for want of, whoever, nobody, somebody, shall, so long, save for, as it were, that which,
    lest, ere"
# Whole words, in this case.
citations="DESIGN, STYLE, RECIPES, PEERS"

files=()
for file in *.md docs/*.md creel.hpp dev CMakeLists.txt; do
    [[ -e $file ]] && files+=("$file")
done
for folder in fibers sync io tests bench examples cmake; do
    [[ -d $folder ]] || continue
    while IFS= read -r file; do files+=("$file"); done < <(find "$folder" -type f \
        \( -name '*.?pp' -o -name '*.sh' -o -name '*.md' -o -name '*.cmake' -o -name '*.txt' \) |
        LC_ALL=C sort)
done

LC_ALL=C awk -v words="$words" -v citations="$citations" '
function offence(text) { print FILENAME ":" FNR ": " text; failed = 1 }

function is_markdown() { return FILENAME ~ /\.md$/ }

# The text of a line that is prose: all of Markdown, and what is behind a comment sign elsewhere.
# A sign in a string of C++ is none.
function prose_of(line) {
    if (is_markdown())
        return line
    if (FILENAME ~ /\.[ch]pp$/) {
        gsub(/\47\\?"\47/, "", line) # a quote as a character
        return match(line, /^([^"\/]|"([^"\\]|\\.)*"|\/[^\/])*\/\//) ? substr(line, RLENGTH) : ""
    }
    return match(line, /(^|[ \t])#/) ? substr(line, RSTART) : ""
}

# In characters, not in bytes.
function columns_of(line) {
    gsub(/[\200-\277]/, "", line)
    return length(line)
}

function as_words(text) {
    gsub(/[^A-Za-z0-9_]+/, " ", text)
    return " " text " "
}

# How often `phrase` stands in `text`, in whole words.
function count_of(phrase, text,    count, at) {
    while ((at = index(text, " " phrase " ")) != 0) {
        ++count
        text = substr(text, at + length(phrase) + 1)
    }
    return count + 0
}

BEGIN {
    word_count = split(words, word_list, /,[ \n]+/)
    citation_count = split(citations, citation_list, /, /)
}

FNR == 1 { before = "" }

{
    if (FILENAME ~ /^([^\/]*|docs\/[^\/]*)\.md$/ && columns_of($0) > 120)
        offence("a line of " columns_of($0) " columns")
    # clang-format leaves comments alone, for it would break their tables.
    if (FILENAME ~ /\.[ch]pp$/ && columns_of($0) > 100 && prose_of($0) != "")
        offence("a comment in a line of " columns_of($0) " columns")

    prose = as_words(prose_of($0))
    if (prose == "  ") {
        before = ""
        next
    }
    # A phrase may begin on the line before.
    joined = before prose
    gsub(/ +/, " ", joined)
    for (i = 1; i <= word_count; ++i)
        if (count_of(word_list[i], tolower(joined)) > count_of(word_list[i], tolower(before)))
            offence("\"" word_list[i] "\"")
    for (i = 1; i <= citation_count; ++i)
        if (count_of(citation_list[i], prose) > 0)
            offence(citation_list[i] " is not in the repository")
    before = prose
}

END { exit failed }
' "${files[@]}"
