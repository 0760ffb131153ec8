// Several runs and one signal, the grace, and the policy by itself under a virtual clock.
#include "clean_run.hpp"

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/settle.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/detail/process/shutdown.hpp>

#include <boost/fiber/fiber.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

namespace io = creel::io;
using io::detail::run_shutdown;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

void sleep_long() {
    creel::this_fiber::sleep_for(1h);
}

void say(const std::string& text) {
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
}

// A run on a thread of its own. After a signal it drains until let_go().
class draining_run {
public:
    draining_run() {
        while (!runs_)
            std::this_thread::yield();
    }
    ~draining_run() {
        let_go();
        thread_.join();
    }
    void let_go() { may_end_.open(); }

private:
    gate may_end_;
    std::atomic<bool> runs_{false};
    std::thread thread_{[this] {
        io::run([this] {
            runs_ = true;
            when_cancelled([this](const creel::cancelled&) {
                creel::shield([this] { may_end_.pass(); });
                say("drained ");
            });
        });
        say("behind ");
    }};
};

// Runs f in a child process, while another run drains there. The child's stderr begins with the
// outcome of f's run.
child_result beside_another(test_body<creel::nursery> f) {
    return run_in_child([&] {
        draining_run other;
        say(outcome_of([&] { io::run([&](creel::nursery& root) { f(root); }); }) + "; ");
    });
}

} // namespace

TEST_CASE("bug: a run that a signal cuts short while another drains throws interrupted") {
    const auto check = [](const char* body, const char* outcome, test_body<creel::nursery> f) {
        const auto child = beside_another(std::move(f));
        INFO(body << ": " << to_string(child));
        CHECK(child.signal == SIGTERM);
        CHECK(child.stderr_text == std::string{outcome} + "; drained ");
    };
    check("waits", "interrupted by SIGTERM", [](creel::nursery&) {
        std::raise(SIGTERM);
        sleep_long();
    });
    check("its child waits", "interrupted by SIGTERM", [](creel::nursery& root) {
        root.spawn([] { sleep_long(); });
        std::raise(SIGTERM);
    });
    check("swallows", "interrupted by SIGTERM", [](creel::nursery&) {
        std::raise(SIGTERM);
        try {
            sleep_long();
        } catch (const creel::cancelled&) {
        }
    });
    check("fails", "the page was not written", [](creel::nursery&) {
        std::raise(SIGTERM);
        try {
            sleep_long();
        } catch (const creel::cancelled&) {
            throw std::runtime_error("the page was not written");
        }
    });
    check("had ended by itself", "nothing", [](creel::nursery& root) {
        root.cancel("enough");
        creel::shield([] {
            std::raise(SIGTERM);
            settle_and_poll();
        });
    });
}

TEST_CASE("a run with a value that a signal cuts short while another drains throws interrupted") {
    const auto child = run_in_child([] {
        draining_run other;
        try {
            static_cast<void>(io::run([] {
                std::raise(SIGINT);
                sleep_long();
                return 1;
            }));
        } catch (const io::interrupted& why) {
            say(why.signal_number() == SIGINT ? "SIGINT; " : "another; ");
        }
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGINT);
    CHECK(child.stderr_text == "SIGINT; drained ");
}

TEST_CASE("an interrupted that nobody catches lets the other runs drain, and then the signal ends "
          "the process") {
    const auto until_it_waits = [](std::thread& t, draining_run& other) {
        while (io::detail::threads_waiting_for_raise() == 0)
            std::this_thread::yield();
        other.let_go();
        t.join();
    };
    const auto cut = [] {
        io::run([] {
            std::raise(SIGTERM);
            sleep_long();
        });
        say("finished ");
    };
    const auto plain = run_in_child([&] {
        draining_run other;
        std::thread t{cut};
        until_it_waits(t, other);
    });
    INFO(to_string(plain));
    CHECK(plain.signal == SIGTERM);
    CHECK(plain.stderr_text == "drained ");

    // The catch is too far out: a destructor on the way calls std::terminate.
    const auto on_the_way = run_in_child([&] {
        draining_run other;
        std::thread t{[&] {
            try {
                std::thread never_joined{[] { ::pause(); }};
                cut();
            } catch (const std::exception&) {
                say("caught ");
            }
        }};
        until_it_waits(t, other);
    });
    INFO(to_string(on_the_way));
    CHECK(on_the_way.signal == SIGTERM);
    CHECK(on_the_way.stderr_text == "drained ");
}

TEST_CASE("a run may join a thread whose own run was cut short, if interrupted is caught there") {
    const auto child = run_in_child([] {
        io::run([] {
            std::atomic<bool> runs{false};
            std::thread inner{[&runs] {
                say(outcome_of([&runs] {
                        io::run([&runs] {
                            runs = true;
                            sleep_long();
                        });
                    }) +
                    "; ");
            }};
            while (!runs)
                creel::this_fiber::yield();
            std::raise(SIGTERM);
            creel::shield([&] { creel::blocking([&] { inner.join(); }); });
            say("joined ");
            sleep_long();
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
    CHECK(child.stderr_text == "interrupted by SIGTERM; joined ");
}

TEST_CASE("within the shutdown grace work goes on, and the tokens tell of the signal") {
    const auto child = run_in_child([] {
        io::run({.shutdown_grace = 1h}, [](creel::nursery& root) {
            auto connection = stream_pair();
            const creel::cancel_token stop = root.token();
            root.spawn([&connection = connection.second, stop] {
                creel::this_fiber::sleep_for(1ms);
                say(stop.cancelled() ? "answered late " : "too early ");
                connection.send_all(bytes_of("answer"));
            });
            std::raise(SIGTERM);
            while (!stop.cancelled())
                creel::this_fiber::yield();
            say(recv_text(connection.first) + ' ');
            root.join();
        });
        say("survived");
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
    CHECK(child.stderr_text == "answered late answer ");
}

TEST_CASE("a second signal within the grace takes its default action at once") {
    const auto child = run_in_child([] {
        io::run({.shutdown_grace = 1h}, [](creel::nursery& root) {
            std::raise(SIGTERM);
            while (!root.scope().cancel_called())
                creel::this_fiber::yield();
            say("in the grace");
            std::raise(SIGINT);
            say("too long");
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGINT);
    CHECK(child.stderr_text == "in the grace");
}

TEST_CASE("a Boost fiber that waits when the root ends has the rest of the grace") {
    const auto child = run_in_child([] {
        io::run({.shutdown_grace = 1h}, [](creel::nursery& root) {
            boost::fibers::fiber{[] {
                say(outcome_of([] { creel::this_fiber::sleep_for(20ms); }));
            }}.detach();
            settle();
            std::raise(SIGTERM);
            while (!root.scope().cancel_called())
                creel::this_fiber::yield();
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
    CHECK(child.stderr_text == "nothing");
}

TEST_CASE("a shutdown grace that leaves the timeout no time is a bug that is caught") {
    const auto child =
        run_in_child([] { io::run({.shutdown_grace = 10s, .shutdown_timeout = 10s}, [] {}); });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("must be shorter than the shutdown_timeout"));
}

namespace {

// The policy of a run on a virtual clock, with a descriptor in place of a ring's.
struct policy {
    explicit policy(const io::run_options& options) : of_run(options, wakes) {}
    ~policy() { ::close(wakes); }
    void attend() { of_run.attend(of_run); } // as the ring does when it is woken, or polls

    int wakes = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    run_shutdown of_run;
};

} // namespace

TEST_CASE("a signal cancels with the grace, which counts from it") {
    run_virtually([](manual_poller& outside) {
        policy p{{.shutdown_grace = 2s}};
        const auto begin = outside.now();
        outside.after(1s, [&] {
            std::raise(SIGTERM);
            p.attend();
        });
        creel::with_nursery([&](creel::nursery& root) {
            p.of_run.covers(root.scope());
            const creel::cancel_token stop = root.token();
            creel::this_fiber::sleep_for(1s);
            CHECK(stop.cancelled());
            CHECK(root.scope().reason()->signal_number == SIGTERM);
            CHECK(creel::current_deadline() == begin + 3s);
            sleep_long();
        });
        CHECK(outside.now() == begin + 3s);
        p.of_run.covers_nothing();
        const auto how = p.of_run.drained();
        CHECK(how.to_raise == SIGTERM);
        CHECK(how.interrupted == SIGTERM);
    });
}

TEST_CASE("the shutdown timeout counts from the signal, whatever the grace") {
    const auto child = run_in_child([] {
        run_virtually([](manual_poller& outside) {
            policy p{{.shutdown_grace = 2s, .shutdown_timeout = 10s}};
            const auto attend_after = [&](creel::duration d) {
                outside.after(d, [&] {
                    p.attend();
                    say("not yet ");
                });
            };
            attend_after(500ms);
            outside.after(1s, [] { std::raise(SIGTERM); });
            attend_after(1s);
            attend_after(10'999ms);
            attend_after(11s);
            creel::with_nursery([&](creel::nursery& root) {
                p.of_run.covers(root.scope());
                root.spawn({.name = "stubborn"}, [] { creel::shield([] { sleep_long(); }); });
            });
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(
        child.stderr_text,
        Catch::StartsWith("not yet not yet not yet creel: the shutdown timeout has passed") &&
            Catch::Contains("stubborn"));
}

TEST_CASE("a run that had ended before the signal reached it keeps its value") {
    run_virtually([] {
        policy finished{{}};
        policy other{{}};
        creel::with_nursery([&](creel::nursery& root) { finished.of_run.covers(root.scope()); });
        finished.of_run.covers_nothing();
        std::raise(SIGTERM);
        const auto how = finished.of_run.drained();
        CHECK(how.to_raise == 0);
        CHECK(how.interrupted == 0);
        policy late{{}};
        creel::with_nursery([&](creel::nursery& root) {
            late.of_run.covers(root.scope());
            CHECK(root.scope().cancel_called());
        });
        late.of_run.covers_nothing();
        CHECK(late.of_run.drained().interrupted == SIGTERM);
        CHECK(other.of_run.drained().to_raise == SIGTERM);
    });
}
