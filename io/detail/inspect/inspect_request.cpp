#include <creel/io/detail/inspect/inspect_request.hpp>

#include <creel/fibers/cancel_by_name.hpp>
#include <creel/fibers/dump.hpp>
#include <creel/fibers/process_statistics.hpp>
#include <creel/fibers/version.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <sstream>

#include <unistd.h>

namespace creel::io::detail {

namespace {

constexpr std::string_view help =
    "dump [json] [all] [fibers=N] [frames=N] [fiber=N]\n"
    "    every fiber; json: for programs; all: also the frames of creel and Boost; fibers: a run\n"
    "    with more of them shows groups; frames: of a backtrace; fiber: only this one\n"
    "counters\n"
    "    the counters of all runs, as text for Prometheus; also: GET /metrics\n"
    "cancel NAME\n"
    "    cancels every nursery that has this name\n"
    "who\n"
    "    the version of creel, and the process\n";

// Takes the first word off `rest`, and the spaces around it.
std::string_view take_word(std::string_view& rest) noexcept {
    const auto skip_spaces = [&rest] {
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    };
    skip_spaces();
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(word.size());
    skip_spaces();
    return word;
}

// "fibers=100": true if the word has this key and a number behind it.
template <typename Number>
bool takes_number(std::string_view word, std::string_view key, Number& to) noexcept {
    if (word.rfind(key, 0) != 0 || word.size() == key.size())
        return false;
    const char* const end = word.data() + word.size();
    const auto read = std::from_chars(word.data() + key.size(), end, to);
    return read.ec == std::errc{} && read.ptr == end;
}

std::string dump_as(std::string_view wishes) {
    dump_options options;
    while (!wishes.empty()) {
        const std::string_view word = take_word(wishes);
        if (word == "json")
            options.format = dump_format::json;
        else if (word == "text")
            options.format = dump_format::text;
        else if (word == "all")
            options.all_frames = true;
        else if (!takes_number(word, "fibers=", options.most_fibers) &&
                 !takes_number(word, "frames=", options.most_frames) &&
                 !takes_number(word, "fiber=", options.fiber))
            return "error: dump does not know \"" + std::string{word} +
                   "\": dump [json] [all] [fibers=N] [frames=N] [fiber=N]\n";
    }
    std::ostringstream text;
    dump_fibers(text, options);
    return std::move(text).str();
}

std::string counters() {
    std::ostringstream text;
    write_prometheus(text);
    return std::move(text).str();
}

std::string cancel(std::string_view name) {
    if (name.empty())
        return "error: cancel NAME: which nursery?\n";
    const std::string quoted = '"' + std::string{name} + '"';
    if (is_name_of_creel(name))
        return "error: " + quoted +
               " is a name that creel gives nurseries of its own: give yours " + "another\n";
    const named_cancel done = cancel_nurseries(name, "cancelled by creelctl");
    std::string text;
    if (done.nurseries == 0 && done.runs_late == 0)
        return "error: there is no nursery " + quoted + " that is not cancelled already\n";
    if (done.nurseries != 0)
        text += "cancelled " + std::to_string(done.nurseries) +
                (done.nurseries == 1 ? " nursery " : " nurseries ") + quoted + '\n';
    if (done.runs_late != 0)
        text += std::to_string(done.runs_late) +
                (done.runs_late == 1 ? " run has not answered: it cancels when its thread goes on\n"
                                     : " runs have not answered: they cancel when their threads go "
                                       "on\n");
    return text;
}

std::string as_http(std::string_view status, std::string_view kind, const std::string& body) {
    return "HTTP/1.1 " + std::string{status} + "\r\nContent-Type: " + std::string{kind} +
           "\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" +
           body;
}

bool is_http(std::string_view line) noexcept {
    const std::size_t last = line.rfind(' ');
    return last != line.npos && line.substr(last + 1).rfind("HTTP/1.", 0) == 0;
}

std::string answer_http(std::string_view line) {
    const std::string_view method = take_word(line);
    std::string_view target = take_word(line);
    target = target.substr(0, target.find('?'));
    if (method != "GET")
        return as_http("405 Method Not Allowed", "text/plain", "only GET /metrics\n");
    if (target != "/metrics")
        return as_http("404 Not Found", "text/plain", "only GET /metrics\n");
    return as_http("200 OK", "text/plain; version=0.0.4; charset=utf-8", counters());
}

} // namespace

std::optional<std::string_view> whole_request(std::string_view received) noexcept {
    const std::size_t end = received.find('\n');
    if (end == received.npos)
        return std::nullopt;
    std::string_view line = received.substr(0, end);
    if (!line.empty() && line.back() == '\r')
        line.remove_suffix(1);
    if (is_http(line) && received.find("\n\r\n") == received.npos &&
        received.find("\n\n") == received.npos)
        return std::nullopt;
    return line;
}

std::string answer_request(std::string_view line) {
    if (is_http(line))
        return answer_http(line);
    std::string_view rest = line;
    const std::string_view command = take_word(rest);
    if (command == "dump")
        return dump_as(rest);
    if (command == "counters")
        return counters();
    if (command == "cancel")
        return cancel(rest);
    if (command == "who")
        return "creel " + std::string{version.text} + " process " + std::to_string(::getpid()) +
               '\n';
    if (command == "help")
        return std::string{help};
    return "error: there is no command \"" + std::string{command} + "\": ask for help\n";
}

std::string answer_too_long() {
    return "error: a request has at most " + std::to_string(longest_request) + " bytes\n";
}

} // namespace creel::io::detail
