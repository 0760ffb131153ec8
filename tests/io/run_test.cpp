#include "clean_run.hpp"
#include "support/seccomp.hpp"
#include "support/settle.hpp"

#include "support/child_process.hpp"
#include <creel/io/detail/ring/operation.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/detail/ring/ring_setup.hpp>

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

int round_trip() {
    int right = 0;
    io::run([&] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                auto peer = listener.accept();
                peer.send_all(bytes_of(recv_text(peer)));
            });
            auto client = io::tcp_stream::connect(listener.local_endpoint());
            client.send_all(bytes_of("ping"));
            right = recv_text(client) == "ping" ? 1 : 0;
        });
    });
    return right;
}

// The message on stderr of a child process that is refused io_uring.
child_result refused_child(const refused_calls& calls) {
    return run_in_child([&] {
        refuse(calls);
        try {
            io::run([] {});
        } catch (const std::system_error& error) {
            std::fputs(error.what(), stderr);
            ::_exit(error.code().value());
        }
    });
}

} // namespace

TEST_CASE("an idle run stays in the kernel: it wakes for its deadlines and for nothing else") {
    clean_run([] {
        creel::this_fiber::yield();
        const auto fibers = creel::statistics();
        const auto ring = io::statistics();
        for (int i = 0; i < 5; ++i)
            creel::this_fiber::sleep_for(10ms);
        CHECK(creel::statistics().waits - fibers.waits <= 10); // each sleep may be cut once
        CHECK(creel::statistics().polls == fibers.polls);
        CHECK(io::statistics().enters - ring.enters <= 10);
    });
}

TEST_CASE("an idle run that may spin soon sleeps at once") {
    io::run({.idle_spin = 20us}, [] {
        for (int i = 0; i < 30; ++i)
            creel::this_fiber::sleep_for(1ms);
        // 2^(k-1) rounds that sleep at once follow the k-th wasted spin since a spin that paid. The
        // kernel decides how many rounds there are, and whether something comes during a spin. The
        // number of rounds is lowest if the wasted spins are spread evenly between those that paid.
        const auto seen = creel::statistics();
        std::uint64_t fewest = 0;
        for (std::uint64_t i = seen.spins_paid + 1; i < seen.spins_wasted; ++i) {
            const std::uint64_t before =
                i / (seen.spins_paid + 1); // wasted spins since one that paid
            fewest += std::uint64_t{1} << (before - 1);
        }
        CHECK(seen.spins >= 1);
        CHECK(fewest <= seen.waits + seen.polls);
    });
}

TEST_CASE("run returns the value of its function") {
    CHECK(io::run([] { return 42; }) == 42);
    CHECK(*io::run([] { return std::make_unique<int>(7); }) == 7);
    CHECK(io::run([](creel::nursery& root) { return root.children(); }) == 0);
    CHECK(io::run({.ring_entries = 8}, [] { return std::string{"with options"}; }) ==
          "with options");
}

TEST_CASE("run throws the error of its function, and of a child of the root") {
    CHECK_THROWS_AS(io::run([] { throw std::out_of_range("mine"); }), std::out_of_range);
    CHECK_THROWS_AS(io::run([]() -> int { throw std::out_of_range("mine"); }), std::out_of_range);
    CHECK_THROWS_AS(io::run([](creel::nursery& root) {
                        root.spawn([] { throw std::out_of_range("a child's"); });
                        creel::this_fiber::sleep_for(1h);
                    }),
                    std::out_of_range);
}

TEST_CASE("run waits for the children of the root") {
    bool ended = false;
    clean_run([&](creel::nursery& root) {
        root.spawn([&] {
            settle_and_poll();
            ended = true;
        });
    });
    CHECK(ended);
}

TEST_CASE("a function that was cut short by a cancel of the root gives task_cancelled") {
    const unsigned line = __LINE__ + 2;
    try {
        io::run([](creel::nursery& root) -> int {
            root.cancel("enough");
            creel::this_fiber::sleep_for(1h);
            return 1;
        });
        FAIL("it has a value");
    } catch (const creel::task_cancelled& e) {
        CHECK(e.reason().text == "enough");
        CHECK(e.where().line() == line);
    }
    io::run([](creel::nursery& root) { // and nothing if there is no value to miss
        root.cancel();
        creel::this_fiber::sleep_for(1h);
    });
}

TEST_CASE("io::run works ten times on one thread, on the main thread and on others") {
    round_trip(); // the first run of the process opens some descriptors for good
    const auto before = descriptors_at_rest();
    int right = 0;
    for (int i = 0; i < 10; ++i)
        right += round_trip();
    CHECK(right == 10);
    for (int k = 0; k < 4; ++k) {
        int elsewhere = 0;
        std::thread{[&] {
            for (int i = 0; i < 10; ++i)
                elsewhere += round_trip();
        }}.join(); // the thread's exit must not hang either
        CHECK(elsewhere == 10);
    }
    check_nothing_left(before);
}

TEST_CASE("io::run works after main on a thread that has had a run, signals and counters as well") {
    const child_result child = run_in_child([] {
        expect(round_trip() == 1);
        std::atexit([] {
            expect(round_trip() == 1);
            expect(io::statistics().operations_completed > 0);
            bool told = false;
            try {
                io::run({.on_signal = io::throw_interrupted}, [] {
                    std::raise(SIGTERM);
                    creel::this_fiber::sleep_for(1h);
                });
            } catch (const io::interrupted&) {
                told = true;
            }
            expect(told);
            ::_exit(0);
        });
        std::exit(1); // NOLINT(concurrency-mt-unsafe): no other thread is there
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
}

TEST_CASE("io::run works on several threads at once") {
    round_trip();
    const auto before = descriptors_at_rest();
    std::vector<std::thread> threads;
    std::array<int, 4> right{};
    for (int& count : right)
        threads.emplace_back([&count] {
            for (int i = 0; i < 10; ++i)
                count += round_trip();
        });
    for (std::thread& t : threads)
        t.join();
    CHECK(right == std::array{10, 10, 10, 10});
    check_nothing_left(before);
}

TEST_CASE("a run inside a run is a bug that is caught") {
    const auto child = run_in_child([] { io::run([] { io::run([] {}); }); });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("io::run inside io::run"));
}

TEST_CASE("run raises the soft limit of open files to the hard one") {
    const auto child = run_in_child([] {
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = 100;
        limit.rlim_max = 200;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        io::run([&] { ::getrlimit(RLIMIT_NOFILE, &limit); });
        ::_exit(limit.rlim_cur == 200 ? 7 : 1);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

TEST_CASE("io_uring refused by seccomp is an error that names the remedy") {
    const auto setup = refused_child({.io_uring_setup = EPERM});
    INFO(to_string(setup));
    CHECK(setup.exit_code == EPERM);
    CHECK_THAT(setup.stderr_text, Catch::Contains("io_uring_setup") && Catch::Contains("seccomp"));

    const auto enter = refused_child({.io_uring_enter = EPERM});
    INFO(to_string(enter));
    CHECK(enter.exit_code == EPERM);
    CHECK_THAT(enter.stderr_text, Catch::Contains("io_uring_enter") && Catch::Contains("seccomp"));
}

TEST_CASE("io_uring unknown to the kernel is an error that names both possible causes") {
    const auto child = refused_child({.io_uring_setup = ENOSYS});
    INFO(to_string(child));
    CHECK(child.exit_code == ENOSYS);
    CHECK_THAT(child.stderr_text, Catch::Contains("Linux 6.1") && Catch::Contains("seccomp"));
}

TEST_CASE("no memory for a ring is an error that names the limit of locked memory") {
    const auto child = refused_child({.io_uring_setup = ENOMEM});
    INFO(to_string(child));
    CHECK(child.exit_code == ENOMEM);
    CHECK_THAT(child.stderr_text, Catch::Contains("ulimit -l"));
}

TEST_CASE("a ring works although its registration is refused") {
    const auto child = run_in_child([] {
        refuse({.io_uring_register = EPERM});
        ::_exit(round_trip() == 1 ? 7 : 1);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

TEST_CASE("a shutdown that takes too long names the fibers that are left and aborts") {
    const auto child = run_in_child([] {
        io::run({.shutdown_timeout = 20ms}, [](creel::nursery& root) {
            root.spawn({.name = "stubborn"},
                       [] { creel::shield([] { creel::this_fiber::sleep_for(1h); }); });
            root.spawn({.name = "obedient"}, [] { creel::this_fiber::sleep_for(1h); });
            settle_and_poll();
            root.cancel();
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("main waits for its child\n"));
    CHECK_THAT(child.stderr_text, Catch::Contains("stubborn"));
    CHECK_THAT(child.stderr_text, !Catch::Contains("obedient"));
}

TEST_CASE("a stuck blocking call holds the exit up to the shutdown timeout and is named") {
    const auto child = run_in_child([] {
        io::run({.shutdown_timeout = 20ms}, [](creel::nursery& root) {
            std::promise<void> running;
            root.spawn([&running] {
                creel::blocking({.name = "stuck"}, [&running] {
                    running.set_value();
                    for (;;)
                        std::this_thread::sleep_for(1h);
                });
            });
            settle_and_poll();
            running.get_future().wait();
            root.cancel();
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("the blocking call \"stuck\" at "));
}

TEST_CASE("a shutdown that ends in time is left alone") {
    for (const auto limit : {std::chrono::hours{1}, std::chrono::hours::max()})
        clean_run({.shutdown_timeout = limit}, [](creel::nursery& root) {
            root.spawn([] { creel::shield([] { creel::this_fiber::sleep_for(1ms); }); });
            root.cancel();
        });
}

TEST_CASE("counters outside of a run are those the thread's last run ended with") {
    round_trip();
    CHECK(io::statistics().operations_submitted >= 5);
    CHECK(io::statistics().operations_in_flight == 0);
    std::thread{[] { CHECK(io::statistics().operations_submitted == 0); }}.join();
}

namespace {

void describe_nothing(const creel::waiter&, std::string& text) {
    text += "nothing";
}

// Parks on a poll that never completes, and another fiber wakes it.
void resume_too_early() {
    static constexpr creel::waiter_kind kind{&io::detail::withdraw_operation, &describe_nothing};
    static auto streams = stream_pair(); // a close would end the wait
    io::detail::ring& ring = *io::detail::current_ring();
    creel::waiter* parked = nullptr;
    creel::with_nursery([&, fd = streams.first.native_handle()](creel::nursery& n) {
        n.spawn([&, fd] {
            io::detail::operation op{kind, ring, fd};
            parked = &op;
            ring.perform(op, [&](io_uring_sqe& e) { io_uring_prep_poll_add(&e, fd, POLLIN); });
        });
        settle_and_poll();
        creel::wake(*parked);
    });
}

} // namespace

TEST_CASE("in debug mode a fiber that resumed before its operation was over ends the process") {
    const auto child = run_in_child([] { io::run({.debug = true}, [] { resume_too_early(); }); });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("before the last completion of its operation"));
}

TEST_CASE("a refusal is blamed on the sysctl only where that is what refuses") {
    using io::detail::refusal;
    const auto text = [](int sysctl, bool exempt) {
        return io::detail::text_of(refusal{EPERM, "io_uring_setup", sysctl, exempt});
    };
    CHECK_THAT(text(1, false), Catch::Contains("kernel.io_uring_disabled=1") &&
                                   Catch::Contains("kernel.io_uring_group"));
    CHECK_THAT(text(1, true), Catch::Contains("seccomp") && !Catch::Contains("sysctl"));
    CHECK_THAT(text(2, true), Catch::Contains("kernel.io_uring_disabled=2"));
    CHECK_THAT(text(2, false), !Catch::Contains("io_uring_group"));
    CHECK_THAT(text(0, false), Catch::Contains("seccomp") && !Catch::Contains("sysctl"));
}

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST_CASE("bug: a child can run that was forked while other threads began and ended runs") {
    std::atomic<bool> done{false};
    const auto begin_and_end = [&] {
        while (!done)
            io::run([] {});
    };
    std::thread one{begin_and_end};
    std::thread other{begin_and_end};
    int ran = 0;
    constexpr int forks = 100;
    for (int i = 0; i < forks; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            io::run([] { creel::this_fiber::yield(); });
            _exit(0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        ran += status == 0 ? 1 : 0;
    }
    done = true;
    one.join();
    other.join();
    CHECK(ran == forks);
}
#endif
