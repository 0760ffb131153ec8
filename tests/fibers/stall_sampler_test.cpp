#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/clock_poller.hpp"
#include "support/gate.hpp"
#include "support/named_frames.hpp"

#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/inspect/stall_cause.hpp>
#include <creel/fibers/detail/inspect/stall_sampler.hpp>
#include <creel/fibers/detail/inspect/thread_backtrace.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/unwind/machine.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <mutex>
#include <regex>
#include <string>
#include <thread>

#include <csignal>
#include <fcntl.h>
#include <spawn.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace creel::test;
using namespace std::chrono_literals;
using Catch::Contains;

namespace {

constexpr auto threshold = 100ms;
constexpr auto interval = threshold / 4;

// A watched run on a thread of its own, whose fiber "worker" calls f.
class watched_thread {
public:
    explicit watched_thread(std::function<void()> f, creel::duration after = threshold)
        : options_{.threshold = after}, thread_([this, f = std::move(f)] {
              clock_poller outside;
              creel::run_scheduler(outside, {}, [&] {
                  creel::detail::watch_run(*creel::detail::scheduler::current(), &options_);
                  creel::with_nursery([&](creel::nursery& n) { n.spawn({.name = "worker"}, f); });
                  creel::detail::watch_run(*creel::detail::scheduler::current(), nullptr);
              });
          }) {}
    ~watched_thread() { join(); }
    watched_thread(const watched_thread&) = delete;
    watched_thread& operator=(const watched_thread&) = delete;

    void join() {
        if (thread_.joinable())
            thread_.join();
    }

private:
    const creel::stall_watch_options options_;
    std::thread thread_;
};

// Its fiber computes, and yields when it is asked to.
class yielding_thread {
public:
    ~yielding_thread() { asked_ = -1; }

    void yields_again() {
        const int now = ++asked_;
        while (yields_ != now)
            std::this_thread::yield();
    }

private:
    void compute() {
        while (asked_ >= 0) {
            if (yields_ == asked_)
                continue;
            creel::this_fiber::yield();
            yields_ = asked_.load();
        }
    }

    std::atomic<int> asked_{0};
    std::atomic<int> yields_{0};
    watched_thread thread_{[this] { compute(); }}; // the first to end
};

// Looks, with a clock that the test moves.
class looks {
public:
    std::string once(creel::duration later = interval) {
        now_ += later;
        return sampler_.look(now_);
    }
    // As many as make a stall.
    std::string several() {
        std::string text;
        for (int i = 0; i < 6; ++i)
            text += once();
        return text;
    }
    std::string end() { return sampler_.end(now_); }

    creel::detail::stall_sampler sampler_{};

private:
    creel::time_point now_ = creel::clock::now();
};

struct flags {
    std::atomic<bool> is_there{false};
    std::atomic<bool> go_on{false};

    void arrive_and_compute() {
        is_there = true;
        while (!go_on) {
        }
    }
    void await() const {
        while (!is_there)
            std::this_thread::yield();
    }
};

bool matches(const std::string& text, const char* pattern) {
    return std::regex_search(text, std::regex{pattern});
}

// Of the only run, with those that were before it in its place.
std::uint64_t stalls_counted() {
    std::uint64_t counted = 0;
    creel::detail::for_each_run(
        [&](creel::detail::scheduler& s) { counted = s.live.stalls().stalls; });
    return counted;
}

bool is_in_call(int thread_id, long number) {
    const auto call = creel::detail::kernel_call_of(thread_id);
    return call && call->number == number;
}

// Until the kernel shows that the worker waits in this call.
void await_call(const std::atomic<int>& thread_id, long number) {
    CHECK(becomes_true([&] { return is_in_call(thread_id, number); }));
}

[[gnu::noinline]] bool sleeps_for(const timespec& time) {
    const bool is_whole = ::nanosleep(&time, nullptr) == 0;
    asm volatile("");
    return is_whole;
}

} // namespace

TEST_CASE("a fiber that computes for longer than the threshold is reported once, and its end") {
    looks look;
    flags f;
    watched_thread run{[&] { f.arrive_and_compute(); }};
    f.await();
    const std::string begin = look.several();
    const std::string later = look.several();
    f.go_on = true;
    run.join();
    const std::string end = look.once();
    INFO(begin);
    CHECK(matches(begin,
                  "^creel: thread [0-9]+ \"[^\"]+\" has not switched fibers for 100ms: worker "
                  "\\(#[0-9]+, spawned at [^ ]*stall_sampler_test.cpp:[0-9]+\\) (computes|is "
                  "ready to run, but)"));
    CHECK(later.empty());
    INFO(end);
    CHECK(matches(end, "^creel: thread [0-9]+ .* switches fibers again, after [0-9.]+m?s: worker "
                       "\\(#[0-9]+, .*\\) held it up\n$"));
}

TEST_CASE("a run that waits, or that is not watched, is never reported") {
    looks look;
    gate never;
    std::atomic<bool> waits{false};
    watched_thread idle{[&] {
        waits = true;
        never.pass();
    }};
    while (!waits)
        std::this_thread::yield();
    std::thread unwatched{[] {
        clock_poller outside;
        creel::run_scheduler(outside, {}, [] { creel::this_fiber::yield(); });
    }};
    unwatched.join();
    const auto sleeps = [] {
        bool all = true;
        creel::detail::for_each_run(
            [&](creel::detail::scheduler& s) { all = all && s.progress().sleeps; });
        return all;
    };
    CHECK(becomes_true(sleeps));
    CHECK(look.several().empty());
    never.open();
    idle.join();
    CHECK(look.once().empty());
    CHECK(look.sampler_.next_look() == creel::time_point::max());
}

TEST_CASE(
    "bug: the time in which creel makes a report is no stall of the fiber that waits for it") {
    looks look;
    flags f;
    std::string report;
    watched_thread run{[&] {
        report = creel::detail::made_elsewhere([&] {
            f.arrive_and_compute();
            return std::string{"report"};
        });
    }};
    f.await();
    CHECK(look.several().empty());
    f.go_on = true;
    run.join();
    CHECK(look.once().empty());
    CHECK(report == "report");
}

TEST_CASE("long computing with a yield or a checkpoint in it is no stall") {
    looks look;
    yielding_thread run;
    for (int i = 1; i < 20; ++i) {
        run.yields_again();
        CHECK(look.once().empty());
        CHECK(look.once().empty());
    }
}

// A stopped process, a suspended machine, or one without a free processor.
TEST_CASE("looks that come too late begin the count anew") {
    looks look;
    flags f;
    watched_thread run{[&] { f.arrive_and_compute(); }};
    f.await();
    for (int i = 0; i < 10; ++i) {
        CHECK(look.once(1h).empty());
        CHECK(look.once().empty());
        CHECK(look.once().empty());
    }
    CHECK_THAT(look.several(), Contains("has not switched"));
    f.go_on = true;
}

TEST_CASE("a sleep is named, goes on undisturbed, and has a backtrace without a signal") {
    const creel::detail::backtrace_signal signal;
    looks look;
    std::atomic<int> thread_id{0};
    std::atomic<bool> is_whole{false};
    watched_thread run{[&] {
        thread_id = ::gettid();
        is_whole = sleeps_for({2, 0});
    }};
    await_call(thread_id, SYS_clock_nanosleep);
    const std::string text = look.several();
    run.join();
    INFO(text);
    CHECK_THAT(text, Contains("worker (#") && Contains(" sleeps in clock_nanosleep\n") &&
                         Contains("creel::this_fiber::sleep_for()"));
    CHECK(is_whole);
    if (CREEL_CAN_UNWIND != 0)
        CHECK_THAT(text, Contains("\n      "));
    if (CREEL_CAN_UNWIND != 0 && has_debug_information())
        CHECK_THAT(text, Contains("sleeps_for("));
}

TEST_CASE("a blocking read is named with its descriptor and what that is") {
    looks look;
    std::array<int, 2> ends{};
    CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0);
    std::atomic<int> thread_id{0};
    watched_thread run{[&] {
        thread_id = ::gettid();
        char byte = 0;
        expect(::read(ends[0], &byte, 1) == 1);
    }};
    await_call(thread_id, SYS_read);
    const std::string text = look.several();
    CHECK(::write(ends[1], "x", 1) == 1);
    run.join();
    ::close(ends[0]);
    ::close(ends[1]);
    INFO(text);
    CHECK_THAT(text, Contains("blocks the thread in read on descriptor " + std::to_string(ends[0]) +
                              " (a pipe)\n") &&
                         Contains("io::wait_readable"));
}

TEST_CASE("a std::mutex that another thread holds is named with that thread") {
    looks look;
    std::mutex held;
    std::unique_lock hold{held};
    std::atomic<int> thread_id{0};
    watched_thread run{[&] {
        thread_id = ::gettid();
        const std::lock_guard mine{held};
    }};
    await_call(thread_id, SYS_futex);
    const std::string text = look.several();
    hold.unlock();
    INFO(text);
    CHECK_THAT(text, Contains("waits for a std::mutex (or pthread_mutex_t) that thread " +
                              std::to_string(::gettid()) + " \"") &&
                         Contains("creel::sync::mutex"));
}

// The thread can never go on: the process ends.
TEST_CASE("a std::mutex that a fiber holds over a wait is named as such") {
    const auto child = run_in_child([] {
        looks look;
        std::mutex m;
        std::atomic<int> thread_id{0};
        gate never;
        watched_thread run{[&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn({.name = "holder"}, [&] {
                    const std::lock_guard hold{m};
                    never.pass();
                });
                n.spawn({.name = "wants"}, [&] {
                    thread_id = ::gettid();
                    const std::lock_guard mine{m};
                });
            });
        }};
        while (!is_in_call(thread_id, SYS_futex))
            std::this_thread::yield();
        std::fputs(look.several().c_str(), stderr);
        ::_exit(0);
    });
    INFO(to_string(child));
    CHECK_THAT(child.stderr_text, Contains("wants (#") &&
                                      Contains("that this thread holds: another of its fibers") &&
                                      Contains("hold no std::mutex over a call that may wait"));
}

// The parent holds the thread that calls ptrace().
TEST_CASE("a thread that a debugger holds is not reported") {
    const auto child = run_in_child([] {
        expect(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0);
        creel::stall_watch_options options{.threshold = threshold};
        clock_poller outside;
        creel::run_scheduler(outside, {}, [&] {
            creel::detail::watch_run(*creel::detail::scheduler::current(), &options);
            std::string text;
            std::thread other{[&] {
                looks look;
                text = look.several();
            }};
            other.join();
            creel::detail::watch_run(*creel::detail::scheduler::current(), nullptr);
            expect(text.empty());
        });
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
}

// The parent traces the thread until that has looked, and lets go of it then.
TEST_CASE("bug: a stall that has begun under a debugger is reported once that has let go") {
    const auto child = run_in_child([] {
        const pid_t traced = ::fork();
        if (traced != 0) {
            int status = 0;
            expect(::waitpid(traced, &status, 0) == traced && WIFSTOPPED(status));
            expect(::ptrace(PTRACE_DETACH, traced, nullptr, nullptr) == 0);
            expect(::waitpid(traced, &status, 0) == traced && WIFEXITED(status));
            ::_exit(WEXITSTATUS(status));
        }
        expect(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0);
        const int thread_id = ::gettid();
        creel::stall_watch_options options{.threshold = threshold};
        clock_poller outside;
        creel::run_scheduler(outside, {}, [&] {
            creel::detail::watch_run(*creel::detail::scheduler::current(), &options);
            std::thread other{[&] {
                looks look;
                expect(look.several().empty());
                expect(stalls_counted() == 0);
                expect(::syscall(SYS_tgkill, ::getpid(), thread_id, SIGSTOP) == 0);
                while (creel::detail::is_traced(thread_id))
                    std::this_thread::yield();
                expect(matches(look.several(), "^creel: thread .* has not switched"));
                expect(stalls_counted() == 1);
            }};
            other.join();
            creel::detail::watch_run(*creel::detail::scheduler::current(), nullptr);
        });
        ::_exit(0);
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
}

// The child opens a pipe that has no writer, before it executes its program.
TEST_CASE("bug: a thread in posix_spawn() is told to wait for a child process and not for a disk") {
    looks look;
    const std::string pipe = "/tmp/creel-stall-" + std::to_string(::getpid());
    ::unlink(pipe.c_str());
    CHECK(::mkfifo(pipe.c_str(), 0600) == 0);
    std::atomic<int> thread_id{0};
    watched_thread run{[&] {
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, 0, pipe.c_str(), O_RDONLY, 0);
        std::string name = "true";
        std::array<char*, 2> arguments{name.data(), nullptr};
        std::array<char*, 1> environment{};
        pid_t child = 0;
        thread_id = ::gettid();
        expect(::posix_spawnp(&child, "true", &actions, nullptr, arguments.data(),
                              environment.data()) == 0);
        ::posix_spawn_file_actions_destroy(&actions);
        expect(::waitpid(child, nullptr, 0) == child);
    }};
    CHECK(becomes_true([&] { return creel::detail::state_of_thread(thread_id) == 'D'; }));
    const std::string text = look.several();
    ::close(::open(pipe.c_str(), O_WRONLY | O_CLOEXEC));
    run.join();
    ::unlink(pipe.c_str());
    INFO(text);
    CHECK_THAT(text, Contains(" waits for a child process in ") && !Contains("disk"));
}

TEST_CASE("bug: a thread that has had no processor all the time is not told to compute") {
    using creel::detail::processor_time;
    const auto does = [](creel::duration had, creel::duration passed) {
        const creel::time_point began{};
        const creel::detail::thread_sample now{.state = 'R', .time = {1s + had, began + passed}};
        return creel::detail::cause_of_stall(::gettid(), now, {1s, began}, {}).does;
    };
    CHECK_THAT(does(0s, 75ms), Contains("is ready to run") && Contains("only 0ns of 75ms"));
    CHECK_THAT(does(10ms, 75ms), Contains("is ready to run"));
    CHECK(does(20ms, 75ms) == "computes");
    CHECK(does(0s, 1ms) == "computes, or waits for a processor");
}

TEST_CASE("bug: a second stall_watch on a run gives way to the first when it ends") {
    clock_poller outside;
    creel::run_scheduler(outside, {}, [] {
        const auto watched_after = [] {
            const auto* const how = creel::detail::scheduler::current()->live.watched();
            return how != nullptr ? creel::duration{how->threshold} : creel::duration{};
        };
        {
            const creel::stall_watch first{{.threshold = 1h, .interrupts = false}};
            {
                const creel::stall_watch second{{.threshold = 2h, .interrupts = false}};
                CHECK(watched_after() == 2h);
            }
            CHECK(watched_after() == 1h);
        }
        CHECK(watched_after() == 0h);
    });
}

TEST_CASE("bug: a stall that begins when reports are too many is reported once they are not") {
    looks look;
    std::atomic<bool> yields{true};
    std::atomic<int> times_yielded{0};
    std::atomic<bool> ends{false};
    watched_thread run{[&] {
        while (!ends)
            if (yields.exchange(false)) {
                creel::this_fiber::yield();
                ++times_yielded;
            }
    }};
    while (times_yielded != 1)
        std::this_thread::yield();
    CHECK_THAT(look.several(), Contains("has not switched"));
    yields = true;
    while (times_yielded != 2)
        std::this_thread::yield();
    CHECK_THAT(look.several(), Contains("again") && !Contains("has not switched"));
    std::string later;
    for (int i = 0; i < 1s / interval; ++i)
        later += look.once();
    ends = true;
    run.join();
    CHECK(matches(later, "^creel: thread .* has not switched fibers for [0-9.]+m?s: worker"));
    CHECK_THAT(look.once(), Contains("switches fibers again"));
}

TEST_CASE(
    "at most one report a second of a run and ten a minute, and the next tells of the others") {
    looks look;
    yielding_thread run;
    int stalls = 0;
    std::uint64_t counted_before = 0; // the first one
    const auto stall = [&](creel::duration apart) {
        run.yields_again();
        if (++stalls == 1)
            counted_before = stalls_counted();
        static_cast<void>(look.once(apart));
        return look.several();
    };
    CHECK_THAT(stall(interval), Contains("has not switched"));
    CHECK(stall(interval).empty());
    CHECK_THAT(stall(1s), Contains("creel: 1 stall before this one had no report"));
    for (int i = 0; i < 8; ++i)
        CHECK_THAT(stall(1s), Contains("has not switched") && !Contains("no report"));
    CHECK(stall(1s).empty());
    CHECK_THAT(stall(1min), Contains("creel: 1 stall before this one had no report"));
    CHECK(stalls_counted() - counted_before == static_cast<std::uint64_t>(stalls));
}
