#include "support/open_descriptors.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstring>
#include <memory>
#include <system_error>

#include <dirent.h>
#include <unistd.h>

namespace creel::test {
namespace {

struct directory_closer {
    void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

// Calls visit(number, directory's descriptor) for each descriptor, in no order.
template <class Visit>
void for_each_descriptor(Visit visit) {
    const std::unique_ptr<DIR, directory_closer> directory{::opendir("/proc/self/fd")};
    if (!directory)
        throw std::system_error(errno, std::generic_category(), "opendir /proc/self/fd");
    const int own = ::dirfd(directory.get());
    for (;;) {
        errno = 0;
        // No other thread has this stream. NOLINTNEXTLINE(concurrency-mt-unsafe)
        const dirent* entry = ::readdir(directory.get());
        if (entry == nullptr) {
            if (errno != 0)
                throw std::system_error(errno, std::generic_category(), "readdir /proc/self/fd");
            return;
        }
        int number = -1;
        const char* end = entry->d_name + std::strlen(entry->d_name);
        const auto parsed = std::from_chars(entry->d_name, end, number);
        if (parsed.ec == std::errc{} && parsed.ptr == end && number != own) // not "." and ".."
            visit(number, own);
    }
}

} // namespace

std::vector<open_descriptor> open_descriptors() {
    std::vector<open_descriptor> result;
    for_each_descriptor([&](int number, int directory) {
        std::array<char, PATH_MAX> target;
        const ssize_t length =
            ::readlinkat(directory, std::to_string(number).c_str(), target.data(), target.size());
        if (length >= 0) // else another thread has just closed it
            result.push_back({number, {target.data(), static_cast<std::size_t>(length)}});
    });
    std::sort(result.begin(), result.end());
    return result;
}

std::size_t open_descriptor_count() {
    std::size_t count = 0;
    for_each_descriptor([&](int, int) { ++count; });
    return count;
}

} // namespace creel::test
