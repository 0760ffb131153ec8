#include "counters.hpp"

#include "text.hpp"

#include <algorithm>
#include <charconv>

namespace creelctl {

namespace {

// The value of a label, without its escapes.
std::string label(std::string_view labels, std::string_view key) {
    const std::string begin = std::string{key} + "=\"";
    std::size_t at = labels.find(begin);
    if (at == labels.npos)
        return {};
    std::string value;
    for (at += begin.size(); at < labels.size() && labels[at] != '"'; ++at) {
        if (labels[at] == '\\' && at + 1 < labels.size())
            ++at;
        value += labels[at];
    }
    return printable(value);
}

// False: it is no number of a run.
bool read_number(const std::string& text, int& to) {
    const char* const end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, to);
    return read.ec == std::errc{} && read.ptr == end && to > 0;
}

} // namespace

double run_counters::operator[](const std::string& metric) const {
    const auto at = values.find(metric);
    return at != values.end() ? at->second : 0;
}

counters counters::parse(std::string_view text) {
    counters all;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        const std::size_t open = line.find('{');
        const std::size_t close = line.rfind("} ");
        if (line.empty() || line.front() == '#' || open == line.npos || close == line.npos)
            continue;
        const std::string_view labels = line.substr(open + 1, close - open - 1);
        int number = 0;
        if (!read_number(label(labels, "run"), number) || !label(labels, "le").empty())
            continue;
        run_counters& to = all.runs[number];
        to.thread = label(labels, "thread");
        to.values[std::string{line.substr(0, open)}] =
            number_in(std::string{line.substr(close + 2)});
    }
    return all;
}

} // namespace creelctl
