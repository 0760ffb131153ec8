// The states of the thread, for the whole process:
//
//   absent -------- 1 dump_thread(), the first ----------> sleeps
//   sleeps -------- 2 a write to the descriptor ---------> dumps    or only looks for stalls
//   dumps --------- 3 dump_to_stderr() has returned -----> sleeps   while a run is watched for
//                                                                  stalls, until the next look
//   sleeps, dumps - 4 ~dump_thread(), the last ----------> ending
//   ending -------- 5 ~dump_thread() has joined it ------> absent
//
// While it is ending another may be made. In a forked child it is absent, whatever it was in the
// parent.
#include <creel/fibers/dump_thread.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/detail/inspect/dump.hpp>
#include <creel/fibers/detail/inspect/stall_sampler.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace creel {

// One thread.
struct detail::dumping {
    unsigned users = 0; // guarded by the mutex
    int descriptor = -1;
    pthread_t thread{};
    std::atomic<bool> ends{false};
};

namespace {

using detail::dumping;

// What is written to the descriptor adds up there: for dumps in the lower half.
constexpr std::uint64_t asks_for_look = std::uint64_t{1} << 32;
constexpr std::uint64_t asks_for_dump = asks_for_look - 1; // mask

constinit std::mutex dumping_mutex;
dumping* dumping_now = nullptr; // guarded by the mutex; null: absent, or ending

void forget_dumping_of_parent() noexcept {
    if (dumping_now != nullptr)
        ::close(dumping_now->descriptor); // a write to it would wake the parent's thread
    dumping_now = nullptr;
}

const fork_guard dumping_in_forks{dumping_mutex, &forget_dumping_of_parent};

// In pieces that a pipe takes at once if it takes any. If stderr takes nothing, and the thread is
// to end, the rest is dropped.
void write_to_stderr(std::string_view text, const std::atomic<bool>& ends) noexcept {
    constexpr int milliseconds_a_look = 100;
    constexpr std::size_t most_at_once = 4096; // PIPE_BUF of Linux
    while (!text.empty()) {
        pollfd out{STDERR_FILENO, POLLOUT, 0};
        if (::poll(&out, 1, milliseconds_a_look) == 0) {
            if (ends.load())
                return;
            continue;
        }
        const ssize_t written =
            ::write(STDERR_FILENO, text.data(), std::min(text.size(), most_at_once));
        if (written < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (written <= 0)
            return;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

// "2026-11-30 11:07:41.123 UTC"
std::string time_of_day() {
    const auto now = std::chrono::system_clock::now();
    const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
    const auto part = std::chrono::duration_cast<std::chrono::milliseconds>(
                          now - std::chrono::system_clock::from_time_t(seconds))
                          .count();
    std::tm fields{};
    ::gmtime_r(&seconds, &fields);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &fields);
    const std::string fraction = std::to_string(1000 + part);
    return std::string{text.data()} + '.' + fraction.substr(1) + " UTC";
}

void dump_to_stderr(const std::atomic<bool>& ends) noexcept {
    try {
        const std::string text = "creel: every fiber (process " + std::to_string(::getpid()) +
                                 ", " + time_of_day() + ")\n" + detail::make_dump({}) +
                                 "creel: the end of the dump\n";
        write_to_stderr(text, ends);
    } catch (const std::exception&) {
        write_to_stderr("creel: there is no memory for a dump of the fibers\n", ends);
    }
}

// What was written until now; 0: nothing until that time.
std::uint64_t wait_for_writes(int descriptor, time_point until) noexcept {
    const duration left = std::max(until - clock::now(), duration{});
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{seconds.count(), (left - seconds).count()};
    pollfd in{descriptor, POLLIN, 0};
    if (::ppoll(&in, 1, until != time_point::max() ? &timeout : nullptr, nullptr) <= 0)
        return 0;
    std::uint64_t writes = 0;
    return ::read(descriptor, &writes, sizeof writes) == sizeof writes ? writes : 0;
}

// Without memory for a report there is none until the next look.
void look_for_stalls(detail::stall_sampler& stalls, bool is_last,
                     const std::atomic<bool>& ends) noexcept {
    try {
        const time_point now = clock::now();
        write_to_stderr(is_last ? stalls.end(now) : stalls.look(now), ends);
    } catch (const std::bad_alloc&) {
    }
}

void* wait_for_wakes(void* argument) noexcept {
    const auto& self = *static_cast<const dumping*>(argument);
    ::pthread_setname_np(::pthread_self(), "creel-dump");
    detail::leave_pinned_core();
    detail::stall_sampler stalls;
    for (;;) {
        const std::uint64_t writes = wait_for_writes(self.descriptor, stalls.next_look());
        const bool is_time = clock::now() >= stalls.next_look();
        const bool ends = self.ends.load();
        if (ends || is_time || writes >= asks_for_look)
            look_for_stalls(stalls, ends, self.ends);
        if (ends)
            return nullptr;
        if ((writes & asks_for_dump) != 0)
            dump_to_stderr(self.ends);
    }
}

void write_to(int descriptor, std::uint64_t number) noexcept {
    [[maybe_unused]] const ssize_t written = ::write(descriptor, &number, sizeof number);
}

// With the mutex held.
dumping& start_dumping() {
    auto made = std::make_unique<dumping>();
    made->descriptor = ::eventfd(0, EFD_CLOEXEC);
    if (made->descriptor < 0)
        throw std::system_error(errno, std::generic_category(), "eventfd for dumps of fibers");
    if (const int error =
            detail::start_joinable_helper_thread(made->thread, &wait_for_wakes, made.get());
        error != 0) {
        ::close(made->descriptor);
        throw std::system_error(error, std::generic_category(), "thread for dumps of fibers");
    }
    return *made.release();
}

// Without the mutex: the thread may be in a dump, which takes other mutexes, or be held up by
// stderr.
void end_dumping(std::unique_ptr<dumping> last) noexcept {
    last->ends.store(true);
    write_to(last->descriptor, asks_for_look);
    ::pthread_join(last->thread, nullptr);
    ::close(last->descriptor);
}

dumping* take_dumping() {
    const std::lock_guard lock{dumping_mutex};
    if (dumping_now == nullptr)
        dumping_now = &start_dumping();
    ++dumping_now->users;
    return dumping_now;
}

} // namespace

dump_thread::dump_thread(bool interrupts) : thread_(take_dumping()) {
    if (interrupts)
        signal_.emplace();
}

dump_thread::~dump_thread() {
    std::unique_ptr<dumping> last;
    {
        const std::lock_guard lock{dumping_mutex};
        // Another one: this is a forked child, and the thread was its parent's.
        if (dumping_now == thread_ && --thread_->users == 0)
            last.reset(std::exchange(dumping_now, nullptr));
    }
    if (last != nullptr)
        end_dumping(std::move(last));
}

int dump_thread::wake_descriptor() const noexcept {
    return thread_->descriptor;
}

void dump_thread::look_for_stalls() noexcept {
    write_to(thread_->descriptor, asks_for_look);
}

} // namespace creel
