#include "clean_run.hpp"
#include "support/malloc_count.hpp"
#include "support/settle.hpp"

#include "support/child_process.hpp"
#include "support/sanitizers.hpp"
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>
#include <utility>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

void sleep_long() {
    creel::this_fiber::sleep_for(1h);
}

void say(const char* text) {
    std::fputs(text, stderr);
    std::fflush(stderr);
}

std::atomic<int> seen_by_program{0};

void programs_handler(int number) {
    seen_by_program = number;
}

} // namespace

TEST_CASE("SIGTERM cancels everything, and ends the process once all has drained") {
    const auto child = run_in_child([] {
        io::run([](creel::nursery& root) {
            struct at_end {
                ~at_end() { say("drained "); }
            };
            root.spawn([] {
                const at_end last;
                try {
                    sleep_long();
                } catch (const creel::cancelled& why) {
                    if (why.reason().cause == creel::cancel_cause::signal &&
                        why.reason().signal_number == SIGTERM && why.reason().text == "SIGTERM")
                        say("reason ");
                    throw;
                }
            });
            settle_and_poll();
            std::raise(SIGTERM);
            sleep_long();
        });
        say("survived");
    });
    INFO(to_string(child));
    CHECK_FALSE(child.exited);
    CHECK(child.signal == SIGTERM);
    CHECK_THAT(child.stderr_text, Catch::Contains("reason ") && Catch::Contains("drained ") &&
                                      !Catch::Contains("survived"));
}

TEST_CASE("SIGTERM ends a run whose work is bound to the root's own token") {
    const auto child = run_in_child([] {
        io::run([](creel::nursery& root) {
            root.token().run([] {
                creel::with_nursery([](creel::nursery& n) {
                    n.spawn([] { sleep_long(); });
                    settle_and_poll();
                    std::raise(SIGTERM);
                });
            });
        });
    });
    INFO(to_string(child));
    CHECK_FALSE(child.exited);
    CHECK(child.signal == SIGTERM);
}

TEST_CASE("a signal ends the process although the run's thread blocks it") {
    const auto child = run_in_child([] {
        std::atomic<bool> over{false};
        std::thread receiver{[&] { // the kernel delivers the signal to this thread
            while (!over)
                std::this_thread::yield();
        }};
        sigset_t blocked;
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGTERM);
        ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
        io::run([] {
            ::kill(::getpid(), SIGTERM);
            sleep_long();
        });
        say("survived");
        over = true;
        receiver.join();
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
}

TEST_CASE("a signal wakes a run that sleeps, whichever thread receives it") {
    const auto child = run_in_child([] {
        std::atomic<bool> ready{false};
        std::thread other{[&] {
            while (!ready)
                std::this_thread::yield();
            std::raise(SIGINT); // on this thread
        }};
        try {
            io::run({.on_signal = io::throw_interrupted}, [&] {
                ready = true;
                sleep_long();
            });
        } catch (const io::interrupted& why) {
            say(why.what());
            other.join();
            ::_exit(why.signal_number() == SIGINT ? 7 : 1);
        }
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
    CHECK_THAT(child.stderr_text, Catch::Contains("SIGINT"));
}

TEST_CASE("the second signal takes its default action at once") {
    const auto child = run_in_child([] {
        io::run([] {
            creel::shield([] {
                std::raise(SIGTERM);
                settle_and_poll();
                say("still here ");
                std::raise(SIGINT);
                say("too long");
            });
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGINT);
    CHECK_THAT(child.stderr_text, Catch::Contains("still here ") && !Catch::Contains("too long"));
}

TEST_CASE("a run that ignores signals leaves them to the process") {
    const auto child = run_in_child([] {
        std::signal(SIGTERM, &programs_handler);
        io::run({.on_signal = io::ignore}, [] {
            std::raise(SIGTERM);
            settle_and_poll();
        });
        ::_exit(seen_by_program == SIGTERM ? 7 : 1);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

TEST_CASE("the program's own handler is put back, and sees the signal after the drain") {
    const auto child = run_in_child([] {
        std::signal(SIGTERM, &programs_handler);
        try {
            io::run([] {
                std::raise(SIGTERM);
                try {
                    sleep_long();
                } catch (...) {
                    if (seen_by_program == 0)
                        say("not yet ");
                    throw;
                }
            });
            say("as if it had finished");
        } catch (const io::interrupted&) {
        }
        struct sigaction now {};
        ::sigaction(SIGTERM, nullptr, &now);
        ::_exit(seen_by_program == SIGTERM && now.sa_handler == &programs_handler ? 7 : 1);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
    CHECK(child.stderr_text == "not yet ");
}

TEST_CASE("a handler that the program installs during a run stays") {
    const auto child = run_in_child([] {
        io::run([] { std::signal(SIGINT, &programs_handler); });
        std::raise(SIGINT);
        ::_exit(seen_by_program == SIGINT ? 7 : 1);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

TEST_CASE("a signal that was ignored before, as under nohup, stays ignored") {
    const auto child = run_in_child([] {
        std::signal(SIGINT, SIG_IGN);
        io::run([] {
            std::raise(SIGINT);
            settle_and_poll();
        });
        ::_exit(7);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

TEST_CASE("a signal ends all runs of the process, and is raised after the last has drained") {
    const auto child = run_in_child([] {
        std::atomic<int> running{0};
        const auto wait = [&] {
            struct at_end {
                ~at_end() { say("drained "); }
            } const last;
            ++running;
            sleep_long();
        };
        std::thread first{[&] { io::run(wait); }};
        std::thread second{[&] { io::run(wait); }};
        std::thread immune{[&] {
            io::run({.on_signal = io::ignore}, [&] {
                while (running < 2)
                    creel::this_fiber::yield();
                std::raise(SIGTERM);
                sleep_long();
            });
        }};
        first.join();
        second.join();
        immune.join();
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
    CHECK_THAT(child.stderr_text, Catch::Contains("drained drained "));
}

TEST_CASE("a real error says more than the signal that it met") {
    const auto child = run_in_child([] {
        try {
            io::run({.on_signal = io::throw_interrupted}, [] {
                std::raise(SIGTERM);
                try {
                    sleep_long();
                } catch (const creel::cancelled&) {
                    throw std::out_of_range("real");
                }
            });
        } catch (const std::out_of_range&) {
            ::_exit(7);
        }
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

TEST_CASE("an error on the way down is told before the signal ends the process") {
    const auto child = run_in_child([] {
        io::run([] {
            std::raise(SIGTERM);
            try {
                sleep_long();
            } catch (const creel::cancelled&) {
                throw std::out_of_range("the last page was not written");
            }
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
    CHECK_THAT(child.stderr_text, Catch::Contains("creel: io::run failed before SIGTERM was raised "
                                                  "again: the last page was not written\n"));
}

TEST_CASE("a signal that comes when there is no memory is told once there is some", "[slow]") {
    const auto child = run_in_child([] {
        io::run([] {
            try {
                {
                    const no_memory any;
                    std::raise(SIGTERM);
                    settle_and_poll(); // cancelled already where a sanitizer's malloc is not
                                       // refused
                }
                sleep_long();
            } catch (const creel::cancelled& why) {
                if (why.reason().cause == creel::cancel_cause::signal)
                    say("told");
                throw;
            }
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
    CHECK(child.stderr_text == "told");
}

TEST_CASE("throw_interrupted wins over the value of a function that ended all the same") {
    const auto child = run_in_child([] {
        try {
            static_cast<void>(io::run({.on_signal = io::throw_interrupted}, [] {
                std::raise(SIGTERM);
                return 1;
            }));
        } catch (const io::interrupted&) {
            ::_exit(7);
        }
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

TEST_CASE("a process goes on after throw_interrupted, and the next run works") {
    const auto child = run_in_child([] {
        int interruptions = 0;
        for (int i = 0; i < 3; ++i) {
            try {
                static_cast<void>(io::run({.on_signal = io::throw_interrupted}, [] {
                    std::raise(SIGTERM);
                    sleep_long();
                    return 1;
                }));
            } catch (const io::interrupted&) {
                ++interruptions;
            }
        }
        const int value = io::run([] { return 4; });
        ::_exit(interruptions + value);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

namespace {

// How a child that is forked in a run ends after a SIGTERM.
int end_of_forked() {
    int status = 0;
    // TSan delays a signal that interrupts code of the program until the next call that TSan
    // intercepts. In a child whose parent had several threads it intercepts none, so a SIGTERM that
    // comes before pause() would be lost. So this parent has no thread "creel-dump" under TSan.
    const int dump_signal = under_tsan ? 0 : io::run_options{}.dump_signal;
    io::run({.dump_signal = dump_signal}, [&] {
        const pid_t forked = ::fork();
        if (forked == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                ::pause();
        }
        ::kill(forked, SIGTERM);
        ::waitpid(forked, &status, 0);
    });
    return status;
}

} // namespace

TEST_CASE("a child that is forked in a run dies of its first signal, and the run goes on") {
    const auto child = run_in_child([] {
        const int status = end_of_forked();
        ::_exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM ? 7 : 1);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

TEST_CASE("a child that is forked in a run has runs and signals of its own") {
    const auto child = run_in_child([] {
        int status = 0;
        // TSan lets a child start threads only if its parent had a single one.
        io::run({.dump_signal = 0}, [&] {
            const pid_t forked = ::fork();
            if (forked == 0) {
                std::thread{[] {
                    try {
                        io::run({.on_signal = io::throw_interrupted}, [] {
                            std::raise(SIGTERM);
                            sleep_long();
                        });
                    } catch (const io::interrupted&) {
                        std::raise(SIGINT); // the parent's handler is no longer installed
                    }
                }}.join();
                ::_exit(0);
            }
            ::waitpid(forked, &status, 0);
        });
        ::_exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT ? 7 : 1);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

namespace {

// Leaves a Boost fiber behind that waits for ever.
void leave_native_in_recv() {
    static auto streams = stream_pair();
    boost::fibers::fiber{[&stream = streams.first] {
        try {
            static_cast<void>(recv_text(stream));
        } catch (const creel::cancelled& why) {
            say(("native: " + why.reason().text + ' ').c_str());
            auto gone = std::move(stream);
        }
    }}.detach();
    settle_and_poll();
}

} // namespace

TEST_CASE("a signal that comes when only a Boost fiber still waits ends its wait") {
    const auto child = run_in_child([] {
        io::run([] {
            leave_native_in_recv();
            boost::fibers::fiber{[] {
                creel::this_fiber::sleep_for(1ms); // the root has ended by then
                std::raise(SIGTERM);
            }}.detach();
            settle_and_poll();
        });
        say("survived");
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
    CHECK(child.stderr_text == "native: SIGTERM ");
}

TEST_CASE("a Boost fiber that waits when the root ends waits as cancelled as the root") {
    const auto child = run_in_child([] {
        io::run([](creel::nursery& root) {
            leave_native_in_recv();
            root.cancel("enough");
        });
        ::_exit(7);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
    CHECK(child.stderr_text == "native: enough ");
}

TEST_CASE(
    "the limit of the shutdown holds for Boost fibers that outlive the root, and names them") {
    const auto child = run_in_child([] {
        io::run({.shutdown_timeout = 20ms}, [](creel::nursery& root) {
            boost::fibers::fiber{[] { creel::shield([] { sleep_long(); }); }}.detach();
            settle_and_poll();
            root.cancel();
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("the shutdown timeout has passed") &&
                                      Catch::Contains("Boost fiber #"));
}
