// The machine, the compiler and the libraries of a run. A fact that cannot be found is "unknown"
// and never an error: a tarball has no commit, a container may have no pkg-config.

#include "report.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>

#include <boost/version.hpp>
#include <sys/utsname.h>
#include <unistd.h>

namespace creel::bench {
namespace {

std::string first_line_of(const std::string& command) {
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe{popen(command.c_str(), "re"), pclose};
    std::array<char, 512> line{};
    if (!pipe || std::fgets(line.data(), static_cast<int>(line.size()), pipe.get()) == nullptr)
        return "";
    const std::string text = line.data();
    return text.substr(0, text.find('\n'));
}

std::string or_unknown(const std::string& text) {
    return text.empty() ? "unknown" : text;
}

std::string kernel() {
    utsname names{};
    return uname(&names) == 0 ? std::string{names.sysname} + " " + names.release : "";
}

std::string cpu() {
    std::ifstream file{"/proc/cpuinfo"};
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("model name"))
            if (const auto colon = line.find(": "); colon != std::string::npos)
                return line.substr(colon + 2);
    return "";
}

std::string compiler() {
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

// The flags of the build type, without the warnings, as bench/CMakeLists.txt passes them.
std::string flags() {
    return CREEL_BENCH_FLAGS;
}

// The commit of the tree that contains this program. "-dirty" marks a tree whose tracked files
// differ from it.
std::string commit() {
    std::error_code ignored;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", ignored);
    const auto folder = self.parent_path().string();
    if (folder.empty() || folder.find('\'') != std::string::npos)
        return "";
    const std::string git = "git -C '" + folder + "' ";
    const auto hash = first_line_of(git + "rev-parse HEAD 2>/dev/null");
    if (hash.size() < 40)
        return "";
    const auto changed = first_line_of(git + "status --porcelain --untracked-files=no 2>/dev/null");
    return changed.empty() ? hash : hash + "-dirty";
}

std::string date() {
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    std::array<char, 32> text{};
    if (gmtime_r(&now, &utc) == nullptr ||
        std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        return "";
    return text.data();
}

std::string boost_version() {
    return std::to_string(BOOST_VERSION / 100000) + "." +
           std::to_string(BOOST_VERSION / 100 % 1000) + "." + std::to_string(BOOST_VERSION % 100);
}

} // namespace

context describe_context(const std::string& command, int rounds) {
    const auto text = [](const std::string& value) { return json_quoted(or_unknown(value)); };
    return {
        {"kernel", text(kernel())},
        {"cpu", text(cpu())},
        {"cores", std::to_string(sysconf(_SC_NPROCESSORS_ONLN))},
        {"compiler", text(compiler())},
        {"flags", text(flags())},
        {"commit", text(commit())},
        {"date", text(date())},
        {"command", json_quoted(command)},
        {"rounds", std::to_string(rounds)},
        {"boost", text(boost_version())},
        {"liburing", text(first_line_of("pkg-config --modversion liburing 2>/dev/null"))},
    };
}

} // namespace creel::bench
