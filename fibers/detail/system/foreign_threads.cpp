#include <creel/fibers/detail/system/foreign_threads.hpp>

#include <array>
#include <cstdlib>
#include <memory>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace creel::detail {

namespace {

// creel's own threads have names that begin so. So have the workers of io_uring ("iou-wrk-4711"),
// which the kernel lists among the threads of the process.
bool is_own_name(std::string_view name) noexcept {
    return name.starts_with("creel-") || name.starts_with("iou-");
}

bool is_foreign(int tasks, std::string_view thread) noexcept {
    std::array<char, 64> path{};
    if (thread.size() > 20)
        return true;
    thread.copy(path.data(), thread.size());
    std::string_view{"/comm"}.copy(path.data() + thread.size(), 5);
    const int file = ::openat(tasks, path.data(), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false; // it has just ended
    std::array<char, 32> name{};
    const ssize_t bytes = ::read(file, name.data(), name.size());
    ::close(file);
    return bytes <= 0 ||
           !is_own_name(std::string_view{name.data(), static_cast<std::size_t>(bytes)});
}

struct close_folder {
    void operator()(DIR* folder) const noexcept { ::closedir(folder); }
};

} // namespace

bool has_foreign_threads() noexcept {
    const std::unique_ptr<DIR, close_folder> tasks{::opendir("/proc/self/task")};
    if (tasks == nullptr)
        return true;
    while (const dirent* entry = ::readdir(tasks.get())) { // NOLINT(concurrency-mt-unsafe): own DIR
        const std::string_view name{entry->d_name};
        if (name.starts_with(".") || std::atoi(entry->d_name) == ::gettid())
            continue;
        if (is_foreign(::dirfd(tasks.get()), name))
            return true;
    }
    return false;
}

} // namespace creel::detail
