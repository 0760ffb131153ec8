#include "alone.hpp"

#include "child.hpp"
#include "system_call.hpp"

#include <array>
#include <cerrno>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <vector>

#include <unistd.h>

namespace creel::bench {
namespace {

constexpr int most_milliseconds = 15 * 60 * 1000;
constexpr const char* end_mark = "counted to here\n";

// Runs the command on the first allowed core and returns its output on stdout.
std::string output_of(std::vector<std::string> command) {
    const child process{0, [&](int pipe) {
                            std::vector<char*> arguments;
                            for (auto& argument : command)
                                arguments.push_back(argument.data());
                            arguments.push_back(nullptr);
                            if (dup2(pipe, STDOUT_FILENO) < 0)
                                fail(errno, "dup2");
                            execvp(arguments.front(), arguments.data());
                            fail(errno, "cannot run " + command.front());
                        }};
    return process.read_all(most_milliseconds);
}

std::vector<std::string> this_program(const std::string& id, std::uint64_t rounds) {
    return {std::filesystem::read_symlink("/proc/self/exe").string(), "--alone", id,
            std::to_string(rounds)};
}

} // namespace

values measure_alone(const std::string& id, std::uint64_t rounds) {
    std::istringstream text{output_of(this_program(id, rounds))};
    values measured;
    for (double value = 0; text >> value;)
        measured.push_back(value);
    if (measured.empty())
        throw std::runtime_error("its own process measured nothing");
    return measured;
}

std::uint64_t count_instructions_alone(const std::string& id, std::uint64_t rounds) {
    std::vector<std::string> command{"valgrind", "--tool=callgrind",
                                     "--callgrind-out-file=/dev/null", "--log-fd=1"};
    for (auto& argument : this_program(id, rounds))
        command.push_back(std::move(argument));
    const std::string text = output_of(std::move(command));
    // callgrind ends with "==PID== Collected : N".
    constexpr std::string_view label = "Collected : ";
    const auto found = text.find(label);
    if (text.find(end_mark) == std::string::npos || found == std::string::npos)
        throw std::runtime_error("no count from valgrind (apt-get install valgrind?)\n" + text);
    return std::stoull(text.substr(found + label.size()));
}

void end_of_counting() {
    const std::string_view mark = end_mark;
    _exit(write(STDOUT_FILENO, mark.data(), mark.size()) < 0 ? 1 : 0);
}

} // namespace creel::bench
