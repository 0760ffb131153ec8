// A child process that a fiber forks inside its run: calls that wait, wake or spawn there abort and
// say why, and the parent's run goes on.
#include "support/bare_waiter.hpp"
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/forked.hpp"
#include "support/settle.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/local.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/remote_nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

#include <sys/wait.h>
#include <unistd.h>

using namespace creel::test;
using namespace std::chrono_literals;

namespace {

constexpr const char* reason = "made by fork() inside io::run";

// Objects of the run that the child process might use by mistake.
struct parents {
    creel::nursery& n;
    creel::remote_nursery remote;
    creel::cancel_token token; // of a scope in which a fiber waits
    bare_waiter* parked;       // that fiber's
};

// Forks in a run in which a fiber waits, and runs `call` in the child process; then the run goes
// on.
child_result after_fork(const std::function<void(parents&)>& call) {
    return run_in_child([&] {
        run_virtually([&] {
            creel::cancel_scope scope;
            creel::with_nursery([&](creel::nursery& n) {
                bare_waiter* parked = nullptr;
                n.spawn([&] {
                    scope.run([&] {
                        bare_waiter w;
                        parked = &w;
                        expect(creel::park(w) == creel::wake_reason::signalled);
                    });
                });
                settle();
                parents theirs{n, n.remote(), scope.token(), parked};
                expect(was_aborted(status_of_fork([&] { call(theirs); })));
                creel::this_fiber::sleep_for(1ms);
                creel::wake(*parked);
            });
        });
    });
}

using call = std::pair<std::string, std::function<void(parents&)>>;

} // namespace

TEST_CASE("in a child that is forked inside a run each call aborts and names fork") {
    const auto [name, mistake] = GENERATE(
        call{"yield", [](parents&) { creel::this_fiber::yield(); }},
        call{"checkpoint", [](parents&) { creel::this_fiber::checkpoint(); }},
        call{"sleep_for", [](parents&) { creel::this_fiber::sleep_for(1ms); }},
        call{"park", [](parents&) { bare_waiter never; }},
        call{"wake", [](parents& p) { creel::wake(*p.parked); }},
        call{"with_nursery", [](parents&) { creel::with_nursery([](creel::nursery&) {}); }},
        call{"spawn", [](parents& p) { p.n.spawn([] {}); }},
        call{"remote spawn", [](parents& p) { static_cast<void>(p.remote.spawn([] {})); }},
        call{"cancel", [](parents& p) { p.n.cancel(); }},
        call{"token", [](parents& p) { p.token.cancel(); }},
        call{"scope", [](parents&) { creel::fail_after(1h, [] {}); }},
        call{"blocking", [](parents&) { creel::blocking([] {}); }},
        call{"run", [](parents&) { run_virtually([] {}); }},
        call{"statistics", [](parents&) { static_cast<void>(creel::statistics()); }},
        call{"exit", [](parents&) { std::exit(0); }}, // NOLINT(concurrency-mt-unsafe)
        call{"a throw", [](parents&) { throw std::runtime_error{"out of the fiber"}; }});
    const auto child = after_fork(mistake);
    INFO(name << ": " << to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK_THAT(child.stderr_text, Catch::Contains(reason));
}

namespace {

// A fiber forks, and the child process goes on out of `leave`.
void fork_and_return() {
    const pid_t forked = ::fork();
    if (forked == 0)
        return;
    int status = 0;
    ::waitpid(forked, &status, 0);
    ::_exit(was_aborted(status) ? 0 : 1);
}

} // namespace

TEST_CASE("a fiber that has forked inside a run does not end in the child") {
    const bool is_main = GENERATE(true, false);
    const auto child = run_in_child([&] {
        run_virtually([&] {
            if (is_main)
                fork_and_return();
            else
                creel::with_nursery([](creel::nursery& n) { n.spawn(&fork_and_return); });
        });
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK_THAT(child.stderr_text, Catch::Contains(reason));
}

TEST_CASE(
    "a child that is forked inside a run sees the locals of the fiber, and may exec or _exit") {
    const auto child = run_in_child([] {
        run_virtually([] {
            static const creel::local<int> request{0};
            creel::with_nursery([](creel::nursery& n) {
                n.spawn([] {
                    request.with(7, [] {
                        expect(status_of_fork([] { expect(request.get() == 7); }) == 0);
                        expect(status_of_fork([] {
                                   ::execl("/bin/sh", "sh", "-c", "exit 0", nullptr);
                                   ::_exit(1);
                               }) == 0);
                    });
                });
            });
        });
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK(child.stderr_text.empty());
}
