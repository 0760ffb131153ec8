#include <creel/fibers/race.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/error_origin.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

template <typename... F>
concept can_race = requires(F... f) { creel::race(f...); };

auto after(creel::duration d, int value) {
    return [d, value] {
        creel::this_fiber::sleep_for(d);
        return value;
    };
}

auto failing_after(creel::duration d, const char* what) {
    return [d, what]() -> int {
        creel::this_fiber::sleep_for(d);
        throw std::runtime_error(what);
    };
}

} // namespace

TEST_CASE("race returns the first value and cancels and awaits the losers") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        std::string loser;
        const int winner = creel::race(
            [&] {
                loser = outcome_of([] { creel::this_fiber::sleep_for(1h); });
                creel::shield([] { creel::this_fiber::sleep_for(1s); });
                return 1;
            },
            after(1s, 2));
        CHECK(winner == 2);
        CHECK(loser == "cancelled: another has won the race");
        CHECK(outside.now() - begin == 2s);
    });
    CHECK(left == nothing);
}

TEST_CASE("where two succeed at once the first to end wins and the other value is dropped") {
    const auto left = run_virtually([] {
        const auto dropped = std::make_shared<int>(2);
        gate g;
        // Both pass in the same round of the ready queue, and neither waits again.
        auto both = creel::race(
            [&] {
                g.pass();
                return std::make_shared<int>(1);
            },
            [&] {
                g.pass();
                return dropped;
            },
            [&] {
                g.open();
                creel::this_fiber::sleep_for(1h);
                return std::shared_ptr<int>{};
            });
        CHECK(*both == 1);
        CHECK(dropped.use_count() == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE("the result of a race is the common type") {
    run_virtually([] {
        const auto r = creel::race([] { return 1; }, [] { return 2.5; });
        CHECK(std::is_same_v<decltype(r), const double>);
        CHECK(r == 1.0);
        creel::race([] {}, [] {}); // of nothing: who is done first
    });
    CHECK(!can_race<>);
}

TEST_CASE("an error before anyone has won is held and dropped with the win") {
    run_virtually([] { CHECK(creel::race(failing_after(1s, "early"), after(2s, 7)) == 7); });
}

TEST_CASE("when nobody wins the held errors are thrown") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        CHECK(outcome_of([] { static_cast<void>(creel::race(failing_after(1s, "only"))); }) ==
              "only");
        std::size_t errors = 0;
        try {
            static_cast<void>(creel::race(failing_after(1s, "a"), failing_after(2s, "b")));
        } catch (const creel::exception_group& group) {
            errors = group.errors().size();
        }
        CHECK(errors == 2);
        CHECK(outside.now() - begin == 3s); // the first error cancelled no other function
    });
    CHECK(left == nothing);
}

TEST_CASE("a loser's own error after the win is thrown instead of the value") {
    const auto left = run_virtually([] {
        std::string origin;
        CHECK(outcome_of([&] {
                  try {
                      static_cast<void>(creel::race(after(1s, 1), []() -> int {
                          when_cancelled([&] { throw std::runtime_error("cleanup failed"); });
                          return 2;
                      }));
                  } catch (...) {
                      origin = creel::error_origin(std::current_exception()) ? "known" : "unknown";
                      throw;
                  }
              }) == "cleanup failed");
        CHECK(origin == "known");
    });
    CHECK(left == nothing);
}

TEST_CASE("a race that is cancelled cancels all and throws cancelled") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        CHECK(!creel::move_on_after(1s, [] { return creel::race(after(1h, 1), after(2h, 2)); }));
        CHECK(outside.now() - begin == 1s);
        creel::cancel_scope s;
        s.cancel();
        bool ran = false;
        CHECK(!s.run([&] { return creel::race([&] { return ran = true; }); }));
        CHECK(!ran);
    });
    CHECK(left == nothing);
}

TEST_CASE("a value that comes although the race is cancelled is returned") {
    run_virtually([] {
        const auto r = creel::move_on_after(1s, [] {
            return creel::race(
                [] {
                    creel::shield([] { creel::this_fiber::sleep_for(2s); });
                    return 5;
                },
                after(1h, 1));
        });
        CHECK(r == 5);
    });
}

TEST_CASE("errors of a race that is cancelled without a winner are thrown") {
    run_virtually([] {
        CHECK(outcome_of([] {
                  static_cast<void>(creel::move_on_after(
                      2s, [] { return creel::race(failing_after(1s, "real"), after(1h, 1)); }));
              }) == "real");
    });
}
