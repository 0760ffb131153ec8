// creel before main has begun and after it has returned: in the constructors and destructors of
// global objects.
#include "support/at_exit.hpp"
#include "support/check.hpp"
#include "support/manual_poller.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/local.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/race.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/operations.hpp>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>

#include <unistd.h>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

void wait_long() {
    creel::this_fiber::sleep_for(1h);
}

// The linker puts the program's objects first: this one is made before any object of the library.
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
const before_main made_first; // NOLINT(cert-err58-cpp): an exception must end the tests

} // namespace

TEST_CASE("deadlines, stops and runs work before main has begun") {
    CHECK_THAT(made_first.of_a_deadline, Catch::StartsWith("timed out at its deadline"));
    CHECK(made_first.of_a_stop == "cancelled: a stop was requested");
    CHECK(made_first.of_a_race == 7);
}

namespace {

const creel::local<int> depth;

// Uses a little of everything; aborts unless all of it works.
void use_all() {
    manual_poller outside{manual_poller::other_threads::yes};
    const int sum = creel::run_scheduler(outside, {}, [] {
        int got = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { got += creel::blocking([] { return 1; }); });
            n.spawn([&] {
                creel::this_fiber::sleep_for(1h);
                got += 2;
            });
            auto far = n.async([] { return depth.get(); });
            got += far.get();
        });
        return got;
    });
    expect(sum == 1 + 2 + 4);
    // As a plain thread:
    expect(!creel::move_on_after(1ms, [] { wait_long(); }));
    const auto failing = [] {
        manual_poller again;
        creel::run_scheduler(again, {}, [] { throw std::runtime_error{"out of the run"}; });
    };
    expect(outcome_of(failing) == "out of the run");
}

void use_all_with_locals() {
    depth.with(4, [] { use_all(); });
}

} // namespace

TEST_CASE("runs work after main on a thread that has had some, in an atexit function") {
    CHECK(failure_of([] {
              use_all_with_locals();
              std::atexit([] {
                  use_all_with_locals();
                  use_all_with_locals();
                  ::_exit(0);
              });
              std::exit(1); // NOLINT(concurrency-mt-unsafe): no other thread is there
          }).empty());
}

TEST_CASE("runs work after main on a thread that had only Boost fibers") {
    CHECK(failure_of([] {
              boost::this_fiber::yield();
              std::atexit([] {
                  use_all_with_locals();
                  ::_exit(0);
              });
              std::exit(1); // NOLINT(concurrency-mt-unsafe): no other thread is there
          }).empty());
}

TEST_CASE("runs work in destructors of thread_locals, older and younger than the first run") {
    static thread_local std::optional<at_exit<void (*)()>> older;
    static thread_local std::optional<at_exit<void (*)()>> younger;
    CHECK(failure_of([] {
              std::thread{[] {
                  older.emplace(&use_all_with_locals);
                  use_all_with_locals();
                  younger.emplace(&use_all_with_locals);
              }}.join();
          }).empty());
}
