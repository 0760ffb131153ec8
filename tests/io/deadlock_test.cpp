// A run that waits for what will never come, over a real ring.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/gate.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/deadlock.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/io/run.hpp>

#include <csignal>
#include <cstdlib>
#include <functional>

#include <unistd.h>

using namespace creel::test;
using Catch::Contains;
namespace io = creel::io;

namespace {

// The exit code is 7 after a deadlock.
child_result run_alone(const std::function<void()>& body) {
    return run_in_child([&] {
        try {
            io::run([&] { body(); });
        } catch (const creel::deadlock&) {
            std::_Exit(7);
        }
    });
}

} // namespace

TEST_CASE("io::run throws deadlock if a wake was lost, and no operation is under way") {
    if (under_tsan) // it has a thread of its own in each process
        return;
    const child_result child = run_alone([] {
        gate never;
        creel::with_nursery(
            [&](creel::nursery& n) { n.spawn({.name = "waiter"}, [&] { never.pass(); }); });
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
    CHECK_THAT(child.stderr_text, Contains("every fiber waits") && Contains("waiter (#"));
}

TEST_CASE("a main fiber that waits for a signal is no deadlock") {
    const child_result child = run_alone([] {
        gate never;
        ::alarm(3); // the run asks after a second
        static_cast<void>(std::signal(SIGALRM, [](int) { ::kill(::getpid(), SIGTERM); }));
        never.pass();
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGTERM);
    CHECK(child.stderr_text == "");
}
