// creel before main has begun and after it has returned: in the constructors and destructors of
// global objects.
#include "support/check.hpp"
#include "support/manual_poller.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/race.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <cstdlib>
#include <stop_token>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

void wait_long() {
    creel::this_fiber::sleep_for(1h);
}

// The linker puts the program's own objects first: it is made before anything of the library is.
struct before_main {
    before_main() {
        of_a_deadline = outcome_of([] { creel::fail_at(creel::now(), [] { wait_long(); }); });
        std::stop_source source;
        source.request_stop();
        static_cast<void>(creel::with_stop_token(
            source.get_token(), [&] { of_a_stop = outcome_of([] { wait_long(); }); }));
        manual_poller outside;
        of_a_race = creel::run_scheduler(outside, {}, [] {
            return creel::race([] { return 7; },
                               [] {
                                   wait_long();
                                   return 8;
                               });
        });
    }

    std::string of_a_deadline;
    std::string of_a_stop;
    int of_a_race = 0;
};
const before_main made_first; // NOLINT(cert-err58-cpp): what it throws shall end the tests

} // namespace

TEST_CASE("deadlines, stops and runs work before main has begun") {
    CHECK_THAT(made_first.of_a_deadline, Catch::StartsWith("timed out at its deadline"));
    CHECK(made_first.of_a_stop == "cancelled: a stop was requested");
    CHECK(made_first.of_a_race == 7);
}

TEST_CASE("a run on a thread that has had one and is ending says why it cannot be") {
    const auto run = [] {
        manual_poller outside;
        creel::run_scheduler(outside, {}, [] {});
    };
    const std::string told = abort_of([&] {
        run();
        static const auto again = run;
        std::atexit([] { again(); });
        std::exit(0); // NOLINT(concurrency-mt-unsafe): no other thread is there
    });
    CHECK_THAT(told, Catch::Contains("io::run on a thread that is ending"));
    CHECK_THAT(told, Catch::Contains("call it on a std::thread made there"));
}
