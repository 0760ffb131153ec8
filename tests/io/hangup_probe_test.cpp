#include "clean_run.hpp"
#include "support/child_process.hpp"

#include <creel/io/detail/ring/hangup_probe.hpp>

#include <csignal>
#include <optional>

#include <sys/resource.h>
#include <sys/time.h>

namespace io = creel::io;
using namespace creel::test;

TEST_CASE("the trial over TCP, which older kernels need, answers as the one on Unix sockets does") {
    const std::optional<bool> seen = io::detail::hangup_behind_message_is_seen();
    CHECK(io::detail::hangup_is_seen_on_tcp() == seen);
    CHECK(io::detail::hangup_is_seen_on_tcp(false) == false);
}

TEST_CASE("signals do not change what a trial answers") {
    const std::optional<bool> seen = io::detail::hangup_behind_message_is_seen();
    struct sigaction interrupting {};
    struct sigaction before {};
    interrupting.sa_handler = [](int) {}; // without SA_RESTART
    ::sigaction(SIGALRM, &interrupting, &before);
    const itimerval often{{0, 100}, {0, 100}};
    const itimerval never{};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    int others = 0;
    for (int i = 0; i < 200; ++i) {
        others += io::detail::hangup_behind_message_is_seen() == seen ? 0 : 1;
        others += io::detail::hangup_is_seen_on_tcp() == seen ? 0 : 1;
    }
    ::setitimer(ITIMER_REAL, &never, nullptr);
    ::sigaction(SIGALRM, &before, nullptr);
    CHECK(others == 0);
}

// A later trial would block a thread with waiting fibers.
TEST_CASE("the trial is made with the first ring of the process") {
    const auto child = run_in_child([] {
        io::run([] {
            rlimit none{};
            ::getrlimit(RLIMIT_NOFILE, &none);
            none.rlim_cur = 0; // a trial that is made only now fails
            ::setrlimit(RLIMIT_NOFILE, &none);
            expect(io::detail::kernel_sees_hangups().has_value());
        });
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 0);
    CHECK(child.exited);
}
