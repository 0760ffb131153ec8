#include "trace_reader.hpp"

#include "json.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>

#include <stdlib.h>
#include <unistd.h>

namespace creel::test {

namespace {

// What follows "key": on a line, up to the end of the string or number; empty if there is none.
std::string value_of(std::string_view key, const std::string& line) {
    const std::string label = '"' + std::string{key} + "\":";
    std::size_t at = line.find(label);
    if (at == line.npos)
        return {};
    at += label.size();
    if (line[at] != '"')
        return line.substr(at, line.find_first_of(",}", at) - at);
    const std::size_t end = line.find('"', at + 1);
    return line.substr(at + 1, end - at - 1);
}

std::string without_numbers(const std::string& text) {
    static const std::regex number{R"( \(#\d+\))"};
    return std::regex_replace(text, number, "");
}

double number_of(const std::string& text) {
    return text.empty() ? 0 : std::stod(text);
}

using names = std::map<std::string, std::string>; // by tid

std::string name_in(const names& known, const std::string& tid) {
    const auto found = known.find(tid);
    if (found == known.end())
        throw std::runtime_error("track " + tid + " has no name");
    return found->second;
}

} // namespace

temporary_file::temporary_file() : path_("/tmp/creel_trace_XXXXXX") {
    const int descriptor = ::mkstemp(path_.data());
    if (descriptor < 0)
        throw std::runtime_error("mkstemp");
    ::close(descriptor);
}

temporary_file::~temporary_file() {
    ::unlink(path_.c_str());
}

std::string temporary_file::text() const {
    std::ostringstream text;
    text << std::ifstream{path_}.rdbuf();
    return text.str();
}

std::vector<traced_event> events_of(const std::string& trace) {
    if (!is_json(trace))
        throw std::runtime_error("the trace is not JSON: " + trace);
    names tracks;
    std::vector<std::string> lines;
    std::istringstream in{trace};
    for (std::string line; std::getline(in, line);) {
        const std::string phase = value_of("ph", line);
        if (phase == "M" && value_of("name", line) == "thread_name") {
            const std::string name = value_of("name", line.substr(line.find("\"args\"")));
            tracks[value_of("tid", line)] =
                name.starts_with("thread ") ? "thread" : without_numbers(name);
        } else if (phase == "X" || phase == "i") {
            lines.push_back(line);
        }
    }
    std::vector<traced_event> events;
    for (const std::string& line : lines) {
        traced_event e;
        e.track = name_in(tracks, value_of("tid", line));
        e.category = value_of("cat", line);
        e.name = without_numbers(value_of("name", line));
        e.microseconds = number_of(value_of("ts", line));
        e.length = number_of(value_of("dur", line));
        e.ended = value_of("ended", line);
        if (const std::string by = value_of("by fiber", line); !by.empty())
            e.by_fiber = name_in(tracks, by);
        e.line = line;
        events.push_back(e);
    }
    std::stable_sort(events.begin(), events.end(),
                     [](const auto& a, const auto& b) { return a.microseconds < b.microseconds; });
    const double first = events.empty() ? 0 : events.front().microseconds;
    for (traced_event& e : events)
        e.microseconds -= first;
    return events;
}

std::string story_of(const std::vector<traced_event>& events) {
    std::ostringstream story;
    for (const traced_event& e : events) {
        if (e.category == "poll")
            continue;
        story << e.track << ": " << e.name << ", " << e.microseconds;
        if (e.line.find("\"ph\":\"X\"") != e.line.npos)
            story << " to " << e.microseconds + e.length;
        if (!e.ended.empty())
            story << ", " << e.ended;
        if (!e.by_fiber.empty())
            story << " by " << e.by_fiber;
        story << '\n';
    }
    return story.str();
}

} // namespace creel::test
