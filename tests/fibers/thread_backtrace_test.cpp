#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/detail/inspect/kernel_call.hpp>
#include <creel/fibers/detail/inspect/thread_backtrace.hpp>
#include <creel/fibers/detail/unwind/machine.hpp>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

using creel::detail::backtrace_of;
using creel::detail::backtrace_signal;
using creel::detail::code_address;

namespace {

// A thread that computes until it is told to end.
class busy_thread {
public:
    explicit busy_thread(bool blocks_signals)
        : thread_([this, blocks_signals] {
              sigset_t all;
              sigset_t before;
              sigfillset(&all);
              if (blocks_signals)
                  ::pthread_sigmask(SIG_SETMASK, &all, &before);
              id = ::gettid();
              while (!ends) {
              }
              if (blocks_signals)
                  ::pthread_sigmask(SIG_SETMASK, &before, nullptr); // what is pending comes now
          }) {
        while (id == 0)
            std::this_thread::yield();
    }
    ~busy_thread() { end(); }
    busy_thread(const busy_thread&) = delete;
    busy_thread& operator=(const busy_thread&) = delete;

    void end() {
        ends = true;
        if (thread_.joinable())
            thread_.join();
    }

    std::atomic<int> id{0};
    std::atomic<bool> ends{false};

private:
    std::thread thread_;
};

std::size_t frames_of(const busy_thread& t) {
    std::array<code_address, 16> frames{};
    return backtrace_of(t.id, frames);
}

// What a system call returns that a thread is asked in for its backtrace. `go_on` lets it return.
ssize_t result_of(const std::function<ssize_t()>& call, long number,
                  const std::function<void()>& go_on) {
    const backtrace_signal taken;
    std::atomic<int> id{0};
    ssize_t result = -1;
    std::thread caller{[&] {
        id = ::gettid();
        result = call();
    }};
    const auto is_in_call = [&] {
        const auto now = creel::detail::kernel_call_of(id);
        return now && now->number == number;
    };
    CHECK(creel::test::becomes_true(is_in_call));
    std::array<code_address, 16> frames{};
    const std::size_t count = backtrace_of(id, frames);
    go_on();
    caller.join();
    if (CREEL_CAN_UNWIND != 0)
        CHECK(count > 1);
    return result;
}

void (*handler_of(int number))(int) {
    struct sigaction now {};
    CHECK(::sigaction(number, nullptr, &now) == 0);
    return now.sa_handler;
}

} // namespace

TEST_CASE("a thread is interrupted for its backtrace while a signal is taken, and not without") {
    busy_thread busy{false};
    CHECK(frames_of(busy) == 0);
    {
        const backtrace_signal taken;
        // TSan runs a handler only when the thread calls something.
        if (CREEL_CAN_UNWIND != 0 && !creel::test::under_tsan) {
            std::size_t frames = 0;
            while (frames == 0) // without a core for 50 ms it does not answer
                frames = frames_of(busy);
            CHECK(frames > 1);
        }
    }
    CHECK(frames_of(busy) == 0);
    CHECK(handler_of(SIGRTMAX) == SIG_DFL);
}

TEST_CASE("bug: a read of a socket that has a timeout goes on behind a backtrace") {
    std::array<int, 2> ends{};
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    constexpr timeval hour{3600, 0};
    CHECK(::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour) == 0);
    std::byte byte{};
    CHECK(result_of([&] { return ::read(ends[0], &byte, 1); }, SYS_read,
                    [&] { CHECK(::write(ends[1], "x", 1) == 1); }) == 1);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("bug: a write that has written a part goes on behind a backtrace") {
    std::array<int, 2> ends{};
    CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const std::vector<std::byte> all(std::size_t{1} << 20); // more than fits into a pipe
    const auto read_all = [&] {
        std::vector<std::byte> room(all.size());
        std::size_t bytes = 0;
        while (bytes < all.size()) {
            const ssize_t part = ::read(ends[0], room.data(), room.size());
            if (part <= 0)
                break;
            bytes += static_cast<std::size_t>(part);
        }
        ::close(ends[0]);
    };
    std::thread reader;
    const ssize_t written = result_of(
        [&] {
            const ssize_t result = ::write(ends[1], all.data(), all.size());
            ::close(ends[1]);
            return result;
        },
        SYS_write, [&] { reader = std::thread{read_all}; });
    reader.join();
    CHECK(written == static_cast<ssize_t>(all.size()));
}

TEST_CASE("bug: a backtrace signal that is still pending when it is given back ends no process") {
    busy_thread deaf{true};
    {
        const backtrace_signal taken;
        CHECK(frames_of(deaf) == 0);
    }
    deaf.end(); // it lets signals in before it ends
    CHECK(handler_of(SIGRTMAX) == SIG_DFL);
}

TEST_CASE("bug: a thread is not sent a backtrace signal that the program has taken back") {
    busy_thread busy{false};
    const backtrace_signal taken;
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    CHECK(::sigaction(SIGRTMAX, &standard, nullptr) == 0);
    CHECK(frames_of(busy) == 0); // and the process lives
}

TEST_CASE("a real-time signal that the program has a use for is left alone") {
    sigset_t waited_for;
    sigemptyset(&waited_for);
    sigaddset(&waited_for, SIGRTMAX); // as for sigwait(3)
    ::pthread_sigmask(SIG_BLOCK, &waited_for, nullptr);
    struct sigaction own {};
    own.sa_handler = SIG_IGN;
    CHECK(::sigaction(SIGRTMAX - 1, &own, nullptr) == 0);
    {
        const backtrace_signal taken;
        CHECK(handler_of(SIGRTMAX) == SIG_DFL);
        CHECK(handler_of(SIGRTMAX - 1) == SIG_IGN);
        CHECK(handler_of(SIGRTMAX - 2) != SIG_DFL);
    }
    CHECK(handler_of(SIGRTMAX - 2) == SIG_DFL);
    own.sa_handler = SIG_DFL;
    ::sigaction(SIGRTMAX - 1, &own, nullptr);
    ::pthread_sigmask(SIG_UNBLOCK, &waited_for, nullptr);
}
