#include <creel/fibers/all.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <variant>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("all runs its functions side by side and returns a tuple of their results") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        auto [number, nothing_at_all, owned] = creel::all(
            [] {
                creel::this_fiber::sleep_for(2s);
                return 1;
            },
            [] { creel::this_fiber::sleep_for(1s); },
            [] {
                creel::this_fiber::sleep_for(3s);
                return std::make_unique<int>(3);
            });
        CHECK(number == 1);
        CHECK(std::is_same_v<decltype(nothing_at_all), std::monostate>);
        CHECK(*owned == 3);
        CHECK(outside.now() - begin == 3s);
        CHECK(creel::all() == std::tuple<>{});
        int value = 7;
        const auto by_value = creel::all([&]() -> int& { return value; });
        CHECK(std::is_same_v<decltype(by_value), const std::tuple<int>>);
    });
    CHECK(left == nothing);
}

TEST_CASE("the first error in all cancels the others and is thrown as it is") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        std::string other;
        CHECK(outcome_of([&] {
                  static_cast<void>(creel::all(
                      [&] {
                          other = outcome_of([] { creel::this_fiber::sleep_for(1h); });
                          creel::this_fiber::yield();
                          return 1;
                      },
                      []() -> int {
                          creel::this_fiber::sleep_for(1s);
                          throw std::runtime_error("boom");
                      }));
              }) == "boom");
        CHECK(other == "cancelled: boom");
        CHECK(outside.now() - begin == 1s);
    });
    CHECK(left == nothing);
}

TEST_CASE("two errors in all are a group") {
    run_virtually([] {
        CHECK_THROWS_AS(creel::all([] { when_cancelled([&] { throw std::runtime_error("2"); }); },
                                   [] { throw std::runtime_error("1"); }),
                        creel::exception_group);
    });
}

TEST_CASE("all in a cancelled scope runs nothing and throws cancelled") {
    const auto left = run_virtually([] {
        bool ran = false;
        creel::cancel_scope s;
        s.cancel("outside");
        std::string ended;
        CHECK(!s.run([&] {
            ended = outcome_of([&] { static_cast<void>(creel::all([&] { ran = true; })); });
            creel::check_cancel_only();
        }));
        CHECK(ended == "cancelled: outside");
        CHECK(!ran);
    });
    CHECK(left == nothing);
}

TEST_CASE("all whose own nursery is cancelled has no result and says why") {
    std::string told;
    run_virtually([&] {
        try {
            creel::all([] { return 1; },
                       [] {
                           creel::current_token().cancel("by a child");
                           creel::this_fiber::sleep_for(1h);
                       });
        } catch (const creel::task_cancelled& e) {
            told = e.reason().text;
        }
    });
    CHECK(told == "by a child");
}

TEST_CASE("all that is cancelled awaits its children and throws cancelled") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        const auto r = creel::move_on_after(1s, [] {
            return creel::all([] { creel::this_fiber::sleep_for(1h); },
                              [] {
                                  creel::shield([] { creel::this_fiber::sleep_for(2s); });
                                  return 1;
                              });
        });
        CHECK(!r);
        CHECK(outside.now() - begin == 2s);
    });
}

TEST_CASE("all whose children succeed although it is cancelled returns their results") {
    run_virtually([] {
        const auto r = creel::move_on_after(1s, [] {
            return creel::all([] {
                creel::shield([] { creel::this_fiber::sleep_for(2s); });
                return 5;
            });
        });
        REQUIRE(r);
        CHECK(std::get<0>(*r) == 5);
    });
}
