// The states of the thread, for the whole process:
//
//   absent -------- 1 dump_thread(), the first ----------> sleeps
//   sleeps -------- 2 a write to the descriptor ---------> dumps
//   dumps --------- 3 dump_to_stderr() has returned -----> sleeps
//   sleeps, dumps - 4 ~dump_thread(), the last ----------> absent
//
// In a forked child it is absent, whatever it was in the parent.
#include <creel/fibers/dump_thread.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/detail/inspect/dump.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace creel {

namespace {

// Guarded by the mutex; the thread reads the descriptor, which stays the same while it exists.
constinit std::mutex dumping_mutex;
unsigned dump_threads_wanted = 0;
int dump_descriptor = -1;
pthread_t dumping_thread{};
std::atomic<bool> dumping_ends{false};

void forget_dump_thread_of_parent() noexcept {
    if (dump_descriptor >= 0)
        ::close(dump_descriptor); // else a signal of the child would wake the parent's thread
    dump_threads_wanted = 0;
    dump_descriptor = -1;
}

const fork_guard dumping_in_forks{dumping_mutex, &forget_dump_thread_of_parent};

void write_to_stderr(std::string_view text) noexcept {
    while (!text.empty()) {
        const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

void* wait_for_wakes(void* /*argument*/) noexcept {
    ::pthread_setname_np(::pthread_self(), "creel-dump");
    for (;;) {
        std::uint64_t writes = 0;
        while (::read(dump_descriptor, &writes, sizeof writes) < 0 && errno == EINTR) {
        }
        if (dumping_ends.load())
            return nullptr;
        dump_to_stderr("creel: every fiber");
    }
}

} // namespace

void dump_to_stderr(const char* heading) noexcept {
    try {
        std::string text = heading;
        text += " (process " + std::to_string(::getpid()) + ")\n" + detail::make_dump_at_once({});
        write_to_stderr(text); // in one piece: other threads may write too
    } catch (const std::exception&) {
        write_to_stderr(heading);
        write_to_stderr("\ncreel: there is no memory for a dump of the fibers\n");
    }
}

dump_thread::dump_thread() {
    const std::lock_guard lock{dumping_mutex};
    if (dump_threads_wanted == 0) {
        dump_descriptor = ::eventfd(0, EFD_CLOEXEC);
        if (dump_descriptor < 0)
            throw std::system_error(errno, std::generic_category(), "eventfd for dumps of fibers");
        dumping_ends.store(false);
        if (const int error =
                detail::start_joinable_helper_thread(dumping_thread, &wait_for_wakes, nullptr);
            error != 0) {
            ::close(std::exchange(dump_descriptor, -1));
            throw std::system_error(error, std::generic_category(), "thread for dumps of fibers");
        }
    }
    ++dump_threads_wanted;
}

dump_thread::~dump_thread() {
    const std::lock_guard lock{dumping_mutex};
    if (dump_threads_wanted == 0 || --dump_threads_wanted != 0)
        return; // 0: this is a forked child, and the thread was the parent's
    dumping_ends.store(true);
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(dump_descriptor, &one, sizeof one);
    ::pthread_join(dumping_thread, nullptr);
    ::close(std::exchange(dump_descriptor, -1));
}

int dump_thread::wake_descriptor() const noexcept {
    const std::lock_guard lock{dumping_mutex};
    return dump_descriptor;
}

} // namespace creel
