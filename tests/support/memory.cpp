#include "support/memory.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace creel::test {
namespace {

// Calls visit(text) for the text of each read of the file.
template <class Visit>
void read_parts(const char* path, Visit visit) {
    const auto fail = [path](int error_number) {
        throw std::system_error(error_number, std::generic_category(), path);
    };
    const int file = ::open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        fail(errno);
    std::array<char, 16384> buffer;
    for (;;) {
        const ssize_t count = ::read(file, buffer.data(), buffer.size());
        if (count > 0) {
            visit(std::string_view{buffer.data(), static_cast<std::size_t>(count)});
        } else if (count == 0 || errno != EINTR) {
            const int error_number = count == 0 ? 0 : errno;
            ::close(file);
            if (error_number != 0)
                fail(error_number);
            return;
        }
    }
}

// Returns the number at this place in the line of statm, which counts pages, in bytes.
std::size_t statm_bytes(int place) {
    std::size_t pages = 0;
    bool found = false;
    read_parts("/proc/self/statm", [&](std::string_view text) {
        if (found)
            return;
        for (int i = 0; i < place; ++i)
            text.remove_prefix(std::min(text.find(' '), text.size() - 1) + 1);
        found = std::from_chars(text.data(), text.data() + text.size(), pages).ec == std::errc{};
    });
    if (!found)
        throw std::system_error(EPROTO, std::generic_category(), "/proc/self/statm");
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

} // namespace

std::size_t address_space_bytes() {
    return statm_bytes(0);
}

std::size_t resident_bytes() {
    return statm_bytes(1);
}

std::size_t mapping_count() {
    std::size_t lines = 0;
    read_parts("/proc/self/maps", [&](std::string_view text) {
        lines += static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    });
    return lines;
}

void limit_address_space(std::size_t bytes) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_AS, &limit) < 0)
        throw std::system_error(errno, std::generic_category(), "getrlimit");
    limit.rlim_cur = bytes;
    if (::setrlimit(RLIMIT_AS, &limit) < 0)
        throw std::system_error(errno, std::generic_category(), "setrlimit");
}

} // namespace creel::test
