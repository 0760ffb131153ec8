#include <creel/fibers/detail/system/foreign_threads.hpp>

#include <creel/fibers/fork_guard.hpp>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace creel::detail {

namespace {

constinit std::mutex own_threads_mutex;
own_thread* newest_own_thread = nullptr; // guarded by the mutex

} // namespace

// In a forked child, which has none of them.
void forget_threads_of_parent() noexcept {
    newest_own_thread = nullptr;
}

namespace {
const fork_guard own_threads_in_forks{own_threads_mutex, &forget_threads_of_parent};
}

own_thread::own_thread() noexcept : thread_id_(::gettid()) {
    const std::lock_guard lock{own_threads_mutex};
    next_ = newest_own_thread;
    if (next_ != nullptr)
        next_->previous_ = this;
    newest_own_thread = this;
}

own_thread::~own_thread() {
    const std::lock_guard lock{own_threads_mutex};
    (previous_ != nullptr ? previous_->next_ : newest_own_thread) = next_;
    if (next_ != nullptr)
        next_->previous_ = previous_;
}

bool is_own_thread(int thread_id) noexcept {
    const std::lock_guard lock{own_threads_mutex};
    for (const own_thread* t = newest_own_thread; t != nullptr; t = t->next_)
        if (t->thread_id_ == thread_id)
            return true;
    return false;
}

namespace {

// From include/linux/sched.h: set for the threads that io_uring makes for a process, which the
// kernel lists among its threads.
constexpr unsigned long pf_io_worker = 0x10;

enum class kind_of_thread { ended, of_kernel, foreign };

// proc_pid_stat(5): the flags are the seventh field behind the name, which may have any bytes.
kind_of_thread look_at(int tasks, std::string_view thread) noexcept {
    std::array<char, 64> path{};
    if (thread.size() > 20)
        return kind_of_thread::foreign;
    thread.copy(path.data(), thread.size());
    std::string_view{"/stat"}.copy(path.data() + thread.size(), 5);
    const int file = ::openat(tasks, path.data(), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno == ENOENT || errno == ESRCH ? kind_of_thread::ended : kind_of_thread::foreign;
    std::array<char, 512> line{};
    const ssize_t bytes = ::read(file, line.data(), line.size() - 1);
    const int error = errno;
    ::close(file);
    if (bytes < 0)
        return error == ESRCH ? kind_of_thread::ended : kind_of_thread::foreign;
    const std::string_view text{line.data(), static_cast<std::size_t>(bytes)};
    std::size_t at = text.rfind(')');
    for (int field = 0; field < 7 && at != text.npos; ++field)
        at = text.find(' ', at + 1);
    return at != text.npos && (std::strtoul(line.data() + at, nullptr, 10) & pf_io_worker) != 0
               ? kind_of_thread::of_kernel
               : kind_of_thread::foreign;
}

struct close_folder {
    void operator()(DIR* folder) const noexcept { ::closedir(folder); }
};

bool finds_foreign_thread() noexcept {
    const std::unique_ptr<DIR, close_folder> tasks{::opendir("/proc/self/task")};
    if (tasks == nullptr)
        return true;
    while (const dirent* entry = ::readdir(tasks.get())) { // NOLINT(concurrency-mt-unsafe): own DIR
        const std::string_view name{entry->d_name};
        const int thread_id = std::atoi(entry->d_name);
        if (name.starts_with(".") || thread_id == ::gettid() || is_own_thread(thread_id))
            continue;
        if (look_at(::dirfd(tasks.get()), name) == kind_of_thread::foreign)
            return true;
    }
    return false;
}

} // namespace

// Twice, because a thread may start another one and end while the list is read.
bool has_foreign_threads() noexcept {
    for (int look = 0; look < 2; ++look)
        if (finds_foreign_thread())
            return true;
    return false;
}

} // namespace creel::detail
