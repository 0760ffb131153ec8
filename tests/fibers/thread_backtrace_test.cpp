#include "support/check.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/detail/inspect/thread_backtrace.hpp>
#include <creel/fibers/detail/unwind/machine.hpp>

#include <array>
#include <atomic>
#include <csignal>
#include <thread>

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
