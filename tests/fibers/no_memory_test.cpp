// Cancels that come when there is no memory: nobody is there to be thrown a bad_alloc.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/malloc_count.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/race.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <optional>
#include <stop_token>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("a deadline ends a wait although there is no memory") {
    bool ran_to_its_end = true;
    const auto left = run_virtually([&] {
        creel::move_on_after(1h, [] { creel::move_on_after(1ms, [] {}); }); // the queues' memory
        const no_memory any;
        ran_to_its_end = creel::move_on_after(1ms, [] { creel::this_fiber::sleep_for(1h); });
    });
    CHECK(!ran_to_its_end);
    CHECK(left == nothing);
}

TEST_CASE("a race is won although there is no memory") {
    int winner = 0;
    const auto left = run_virtually([&] {
        std::optional<no_memory> any;
        winner = creel::race(
            [&] {
                creel::this_fiber::yield();
                any.emplace();
                return 1;
            },
            [] {
                creel::this_fiber::sleep_for(1h);
                return 2;
            });
    });
    CHECK(winner == 1);
    CHECK(left == nothing);
}

TEST_CASE("a stop is seen although there is no memory") {
    std::optional<bool> ran_to_its_end;
    const auto left = run_virtually([&] {
        std::stop_source source;
        ran_to_its_end = creel::with_stop_token(source.get_token(), [&] {
            {
                const no_memory any;
                source.request_stop();
            }
            creel::this_fiber::sleep_for(1h);
        });
    });
    CHECK(ran_to_its_end == false);
    CHECK(left == nothing);
}
