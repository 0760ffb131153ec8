#include "clean_run.hpp"
#include "support/becomes_true.hpp"
#include "support/child_process.hpp"
#include "support/count_of.hpp"
#include "support/gate.hpp"
#include "support/sanitizers.hpp"
#include "support/stderr_capture.hpp"

#include <creel/fibers/dump_thread.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/tcp_listener.hpp>

#include <atomic>
#include <csignal>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using Catch::Contains;

namespace {

constexpr std::string_view server_waits = "waits for accept on 127.0.0.1:";

[[gnu::noinline]] void blocks_the_thread(const std::atomic<bool>& go_on) {
    while (!go_on)
        std::this_thread::yield();
    asm volatile("");
}

// A run in which a fiber waits in accept while `f` runs.
void run_with_a_server(const io::run_options& options, const std::function<void()>& f) {
    io::run(options, [&](creel::nursery& root) {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        root.spawn({.name = "server"}, [&] { static_cast<void>(listener.accept()); });
        creel::this_fiber::yield();
        f();
        root.cancel();
        root.join();
    });
}

// Raises the signal until the dumps have shown a thing so many times: on a busy machine a thread
// may have no core for 100 ms, and be shown as stalled, without a backtrace.
bool dumps_show(std::string_view thing, int number, const stderr_capture& captured,
                std::size_t times = 1) {
    const auto dumps = [&] { return count_of("creel: every fiber", captured.text()); };
    std::size_t wanted = dumps();
    return becomes_true([&] {
        if (dumps() == wanted) {
            ::raise(number);
            ++wanted;
        }
        return count_of(thing, captured.text()) >= times;
    });
}

bool default_action(int number) {
    struct sigaction now {};
    return ::sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_DFL;
}

} // namespace

TEST_CASE("SIGQUIT dumps the fibers, and the run goes on") {
    const stderr_capture captured;
    clean_run([&](creel::nursery& root) {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        root.spawn({.name = "server"}, [&] { static_cast<void>(listener.accept()); });
        creel::this_fiber::yield();
        CHECK(dumps_show(server_waits, SIGQUIT, captured));
        CHECK(dumps_show(server_waits, SIGQUIT, captured, 2));
        root.cancel();
    });
    CHECK_THAT(captured.text(), Contains("creel: every fiber (process ") && Contains("server (#") &&
                                    Contains("main (#"));
    CHECK(default_action(SIGQUIT));
}

TEST_CASE("bug: one SIGQUIT makes one dump, however many runs there are") {
    const stderr_capture captured;
    std::atomic<bool> runs{false};
    gate end;
    std::thread other{[&] {
        run_with_a_server({}, [&] {
            runs = true;
            end.pass();
        });
    }};
    run_with_a_server({}, [&] {
        CHECK(becomes_true([&] { return runs.load(); }));
        ::raise(SIGQUIT);
        CHECK(becomes_true([&] { return count_of("creel: the end", captured.text()) == 1; }));
    });
    end.open();
    other.join(); // and with the last run the thread that dumps has ended
    CHECK(count_of("creel: every fiber", captured.text()) == 1);
}

TEST_CASE("SIGQUIT dumps the fibers of a thread that a fiber blocks") {
    const stderr_capture captured;
    std::atomic<bool> blocked{false};
    std::atomic<bool> go_on{false};
    std::thread stuck{[&] {
        run_with_a_server({}, [&] {
            blocked = true;
            blocks_the_thread(go_on);
        });
    }};
    while (!blocked)
        std::this_thread::yield();
    // TSan runs the handler that takes the backtrace later.
    CHECK(dumps_show(under_tsan ? "stalled" : "blocks_the_thread", SIGQUIT, captured));
    CHECK_THAT(captured.text(), Contains("stalled"));
    go_on = true;
    stuck.join();
}

TEST_CASE("another signal may dump the fibers, or none") {
    const stderr_capture captured;
    run_with_a_server({.dump_signal = SIGUSR1}, [&] {
        CHECK(default_action(SIGQUIT));
        CHECK(dumps_show(server_waits, SIGUSR1, captured));
    });
    run_with_a_server({.dump_signal = 0}, [] { CHECK(default_action(SIGQUIT)); });
    run_with_a_server({.on_signal = io::ignore}, [] { CHECK(default_action(SIGQUIT)); });
    CHECK(default_action(SIGUSR1));
}

TEST_CASE("a program's own handler of SIGQUIT stays, and gets the signal") {
    static std::atomic<int> received{0};
    struct sigaction own {};
    struct sigaction before {};
    own.sa_handler = [](int) { ++received; };
    CHECK(::sigaction(SIGQUIT, &own, &before) == 0);
    run_with_a_server({}, [] { ::raise(SIGQUIT); });
    CHECK(received == 1);
    CHECK(::sigaction(SIGQUIT, &before, nullptr) == 0);
}

TEST_CASE("a signal that the program cannot spare is refused as dump_signal") {
    for (const int number : {SIGTERM, SIGSEGV, SIGKILL, 1000}) {
        const auto child = run_in_child([number] { io::run({.dump_signal = number}, [] {}); });
        INFO(to_string(child));
        CHECK(child.signal == SIGABRT);
        CHECK_THAT(child.stderr_text, Contains("dump_signal must be a signal"));
    }
}

TEST_CASE("a forked child has a thread for dumps of its own") {
    io::run([] {
        // Inside a run a child may only exec or exit: it does not wake the parent's thread.
        const pid_t child = ::fork();
        if (child == 0)
            ::_exit(0);
        int status = 0;
        ::waitpid(child, &status, 0);
        CHECK(status == 0);
    });
    const auto later = run_in_child([] {
        const stderr_capture captured;
        run_with_a_server({}, [&] { expect(dumps_show(server_waits, SIGQUIT, captured)); });
    });
    INFO(to_string(later));
    CHECK(later.exited);
    CHECK(later.exit_code == 0);
}
