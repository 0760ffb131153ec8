// creelctl: looks at a process of creel from outside, at its inspect socket.
#include "connection.hpp"
#include "failure.hpp"
#include "target.hpp"
#include "text.hpp"
#include "top.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

using namespace creelctl;

constexpr const char* help = R"(usage: creelctl PROCESS COMMAND

Looks at a program that uses creel, also while it hangs. The program has to run with
io::run({.inspect = "unix:/run/app.sock"}, f).

PROCESS is the number of a process, the path of its socket, or an address as above.

  top [-d SECONDS] [-b] [-n TIMES]
              the runs, and the largest groups of fibers, again and again: each SECONDS (1).
              q ends it, the arrows or j and k scroll. -b writes lines for a file or a pipe,
              as it does if stdout is no terminal; -n ends it after so many times
  tree [--all] [--json]
              every fiber, below its parent, with its backtrace; --all: also the frames of
              creel and Boost. A run with more than 1,000 fibers shows groups
  bt [FIBER]  the whole backtrace of one fiber, or of each fiber
  cancel NAME cancels every nursery that has this name
  counters    the counters of all runs, as text for Prometheus

Exit codes: 1 the process could not do it, 2 usage, 3 no such process, 4 no inspect socket,
5 no permission, 6 no answer.
)";

[[noreturn]] void fail_usage(const std::string& text) {
    throw failure{wrong_usage, text + " (creelctl --help)"};
}

int write_out(const std::string& given) {
    const std::string text = ::isatty(STDOUT_FILENO) != 0 ? printable(given, keep::lines) : given;
    const bool is_written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
    if (std::fflush(stdout) == 0 && is_written)
        return done;
    throw failure{refused, "the output could not be written"};
}

std::string tree_request(const std::vector<std::string>& options) {
    std::string line = "dump";
    for (const std::string& o : options) {
        if (o == "--all")
            line += " all";
        else if (o == "--json")
            line += " json";
        else
            fail_usage("tree does not know " + o);
    }
    return line;
}

std::string backtrace_request(const std::vector<std::string>& options) {
    if (options.empty() || (options.size() == 1 && options[0] == "all"))
        return "dump all frames=64 fibers=10000";
    if (options.size() == 1 && is_number(options[0]) &&
        options[0].find_first_not_of('0') != options[0].npos)
        return "dump all frames=64 fiber=" + options[0];
    fail_usage("bt takes the number of a fiber, as `tree` shows it: #17 is 17");
}

top_options options_of_top(const std::vector<std::string>& words) {
    top_options options;
    options.is_plain = ::isatty(STDOUT_FILENO) == 0;
    const auto value = [&](std::size_t& i) -> const std::string& {
        if (i + 1 == words.size())
            fail_usage(words[i] + " needs a number");
        return words[++i];
    };
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == "-b") {
            options.is_plain = true;
        } else if (words[i] == "-d") {
            const std::string& text = value(i);
            char* end = nullptr;
            const double seconds = std::strtod(text.c_str(), &end);
            if (*end != '\0' || !std::isfinite(seconds) || seconds < 0.1 || seconds > 86400)
                fail_usage("-d takes seconds, from 0.1 on");
            options.delay = std::chrono::milliseconds{std::llround(seconds * 1000)};
        } else if (words[i] == "-n") {
            const std::string& text = value(i);
            if (!is_number(text) || text.size() > 9 || std::atoi(text.c_str()) == 0)
                fail_usage("-n takes a number of times");
            options.times = static_cast<unsigned>(std::atoi(text.c_str()));
        } else {
            fail_usage("top does not know " + words[i]);
        }
    }
    return options;
}

int run_command(const std::vector<std::string>& words) {
    if (words.size() == 1 && (words[0] == "--help" || words[0] == "-h"))
        return write_out(help);
    if (words.size() == 1 && words[0] == "--version")
        return write_out("creelctl " CREELCTL_VERSION "\n");
    if (words.size() < 2)
        fail_usage("creelctl PROCESS top|tree|bt|cancel|counters");
    const std::string& command = words[1];
    const std::vector<std::string> rest(words.begin() + 2, words.end());
    // The usage is checked before the process is looked for.
    if (command == "top") {
        const top_options options = options_of_top(rest);
        return top(find_socket(words[0]), options);
    }
    std::string line;
    if (command == "tree") {
        line = tree_request(rest);
    } else if (command == "bt") {
        line = backtrace_request(rest);
    } else if (command == "counters" && rest.empty()) {
        line = command;
    } else if (command == "cancel") {
        if (rest.size() != 1 || rest[0].find('\n') != std::string::npos)
            fail_usage("cancel takes the name of a nursery");
        line = "cancel " + rest[0];
    } else {
        fail_usage("there is no command " + command);
    }
    const answer got = ask(find_socket(words[0]), line);
    if (const std::string whose = of_other_user(got); !whose.empty())
        std::fprintf(stderr, "creelctl: this is a process%s\n", whose.c_str());
    return write_out(got.text);
}

} // namespace

int main(int count, char** arguments) {
    try {
        return run_command({arguments + 1, arguments + count});
    } catch (const failure& f) {
        std::fprintf(stderr, "creelctl: %s\n", printable(f.what()).c_str());
        return f.code();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "creelctl: %s\n", error.what());
        return refused;
    }
}
