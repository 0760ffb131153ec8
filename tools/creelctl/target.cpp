#include "target.hpp"

#include "connection.hpp"
#include "failure.hpp"
#include "text.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

namespace creelctl {

namespace {

std::string link_of(const std::string& path) {
    std::array<char, 4096> text{};
    const ssize_t bytes = ::readlink(path.c_str(), text.data(), text.size());
    return bytes > 0 ? std::string{text.data(), static_cast<std::size_t>(bytes)} : std::string{};
}

// "socket:[4711]" is the target of each descriptor that is a socket.
std::set<std::string> sockets_of(const std::string& pid) {
    const std::string folder = "/proc/" + pid + "/fd";
    const std::unique_ptr<DIR, int (*)(DIR*)> list{::opendir(folder.c_str()), &::closedir};
    if (list == nullptr && errno == ENOENT)
        throw failure{no_process, "there is no process " + pid};
    if (list == nullptr)
        throw failure{no_permission, "process " + pid + ": " + std::strerror(errno) +
                                         ": only its user, and root, may look"};
    constexpr std::string_view prefix = "socket:[";
    std::set<std::string> found;
    while (const dirent* const entry = ::readdir(list.get())) {
        const std::string target = link_of(folder + '/' + entry->d_name);
        if (target.compare(0, prefix.size(), prefix) == 0)
            found.insert(target.substr(prefix.size(), target.size() - prefix.size() - 1));
    }
    return found;
}

// The path as this process sees it: the other one may have another root or another folder.
std::string seen_from_here(const std::string& pid, const std::string& path) {
    if (path.front() == '@')
        return path;
    const std::string process = "/proc/" + pid;
    if (path.front() != '/')
        return process + "/cwd/" + path;
    struct stat here {};
    struct stat there {};
    const std::string through = process + "/root" + path;
    const bool is_same = ::stat(path.c_str(), &here) == 0 && ::stat(through.c_str(), &there) == 0 &&
                         here.st_ino == there.st_ino && here.st_dev == there.st_dev;
    return is_same ? path : through;
}

// Num RefCount Protocol Flags Type St Inode Path
std::vector<std::string> listening_names(const std::string& pid,
                                         const std::set<std::string>& inodes) {
    constexpr unsigned long accepts = 0x10000; // in Flags
    std::ifstream table{"/proc/" + pid + "/net/unix"};
    std::vector<std::string> found;
    std::string line;
    while (std::getline(table, line)) {
        std::istringstream fields{line};
        std::string skipped;
        std::string flags;
        std::string inode;
        std::string path;
        fields >> skipped >> skipped >> skipped >> flags >> skipped >> skipped >> inode;
        if (!inodes.contains(inode) || (std::strtoul(flags.c_str(), nullptr, 16) & accepts) == 0)
            continue;
        if (std::getline(fields >> std::ws, path) && !path.empty())
            found.push_back(seen_from_here(pid, path));
    }
    return found;
}

// A socket of the process may be one of the program's own, and do with the question as it likes.
bool is_creel(const std::string& address) {
    constexpr std::string_view mark = "creel ";
    ask_options who;
    who.patience = std::chrono::seconds{2};
    who.most_bytes = 4096;
    return ask(address, "who", who).text.compare(0, mark.size(), mark) == 0;
}

std::string find_socket_of_process(const std::string& pid) {
    std::optional<failure> forbidden;
    for (const std::string& name : listening_names(pid, sockets_of(pid))) {
        try {
            if (is_creel(name))
                return name;
        } catch (const failure& f) {
            if (f.code() == no_permission)
                forbidden = f;
        }
    }
    if (forbidden)
        throw failure{*forbidden};
    throw failure{no_socket, "process " + pid +
                                 " has no inspect socket: start it with io::run({.inspect = "
                                 "\"unix:/run/app.sock\"}, f)"};
}

} // namespace

std::string find_socket(const std::string& given) {
    if (is_number(given))
        return find_socket_of_process(given);
    constexpr std::string_view scheme = "unix:";
    return given.compare(0, scheme.size(), scheme) == 0 ? given.substr(scheme.size()) : given;
}

} // namespace creelctl
