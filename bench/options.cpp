#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace creel::bench {

const char* const usage =
    "usage: ./dev bench [FAMILY[/CANDIDATE[,CANDIDATE...]] ...] [options]\n"
    "\n"
    "  --only TEXT[,TEXT...]  measure only ids (family/candidate/case) that contain one of the\n"
    "                         texts; if it is repeated, each --only must match. A text with a\n"
    "                         $ at its end stands for the end of an id: --only 'fibers:100$'\n"
    "  --rounds N             rounds per family (default: the family's own, mostly 9)\n"
    "  --quick                fewer and shorter rounds: a first look, not a figure\n"
    "  --instructions         count instructions too, which needs valgrind; with\n"
    "                         --only /instructions count nothing else\n"
    "  --json FILE            write context and results to a file\n"
    "  --list                 print the ids and measure nothing\n"
    "  --help                 this text\n"
    "\n"
    "examples: ./dev bench echo\n"
    "          ./dev bench echo/creel,raw_epoll --only connections:64/ --quick\n"
    "          ./dev bench switch spawn park --instructions\n"
    "          ./dev bench --only connections:64/,connections:512 --only bytes:64 --rounds 5\n";

namespace {

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    std::istringstream stream{text};
    for (std::string part; std::getline(stream, part, ',');)
        if (!part.empty())
            parts.push_back(part);
    return parts;
}

template <class Number>
Number number(std::string_view option, const std::string& text, Number least) {
    Number value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least)
        throw std::invalid_argument(std::string{option} + " wants a number from " +
                                    std::to_string(least) + ", not \"" + text + "\"");
    return value;
}

selection parse_selection(const std::string& text) {
    const auto slash = text.find('/');
    if (slash == std::string::npos)
        return {text, {}};
    return {text.substr(0, slash), split(text.substr(slash + 1))};
}

} // namespace

options parse_options(int argc, char** argv) {
    options result;
    for (int i = 0; i < argc; ++i)
        result.command += (i == 0 ? "" : " ") + std::string{argv[i]};
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const auto value = [&]() -> std::string {
            if (i + 1 == argc)
                throw std::invalid_argument(argument + " wants a value");
            return argv[++i];
        };
        if (argument == "--json")
            result.json = value();
        else if (argument == "--only")
            result.only.push_back(value());
        else if (argument == "--rounds")
            result.rounds = number(argument, value(), 1);
        else if (argument == "--quick")
            result.quick = true;
        else if (argument == "--instructions")
            result.instructions = true;
        else if (argument == "--alone") {
            result.alone = value();
            result.alone_rounds = number(argument, value(), std::uint64_t{0});
        } else if (argument == "--list")
            result.list = true;
        else if (argument == "--help" || argument == "-h")
            result.help = true;
        else if (argument.starts_with("-"))
            throw std::invalid_argument("unknown option " + argument);
        else
            result.selections.push_back(parse_selection(argument));
    }
    return result;
}

bool options::wants_family(const std::string& family) const {
    return selections.empty() ||
           std::any_of(selections.begin(), selections.end(),
                       [&](const selection& one) { return one.family == family; });
}

bool options::wants(const std::string& family, const std::string& candidate,
                    const std::string& id) const {
    const auto selected = [&](const selection& one) {
        return one.family == family &&
               (one.candidates.empty() || std::find(one.candidates.begin(), one.candidates.end(),
                                                    candidate) != one.candidates.end());
    };
    const auto matches = [&](const std::string& alternatives) {
        const auto parts = split(alternatives);
        return std::any_of(parts.begin(), parts.end(), [&](const std::string& part) {
            return part.ends_with('$') ? id.ends_with(part.substr(0, part.size() - 1))
                                       : id.find(part) != std::string::npos;
        });
    };
    return (selections.empty() || std::any_of(selections.begin(), selections.end(), selected)) &&
           std::all_of(only.begin(), only.end(), matches);
}

} // namespace creel::bench
