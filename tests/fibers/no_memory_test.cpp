// Work that must go on without memory, because no caller could handle a bad_alloc: cancels, Boost's
// fibers, messages.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/malloc_count.hpp"
#include "support/manual_poller.hpp"
#include "support/process_end.hpp"

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/run/native_records.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/race.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/wait_list.hpp>

#include <boost/context/stack_context.hpp>
#include <boost/fiber/fiber.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <source_location>
#include <stop_token>
#include <string>
#include <vector>

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

TEST_CASE("fail_after throws timed_out, and get task_cancelled, although there is no memory") {
    std::string late;
    std::string refused;
    std::optional<creel::duration> limit;
    run_virtually([&] {
        creel::move_on_after(1h, [] { creel::move_on_after(1ms, [] {}); }); // the queues' memory
        creel::with_nursery([&](creel::nursery& n) {
            n.cancel("enough");
            std::optional<creel::timed_out> first; // copies
            std::optional<creel::task_cancelled> second;
            creel::shield([&] {
                const no_memory any;
                try {
                    creel::fail_after(1ms, [] { creel::this_fiber::sleep_for(1h); });
                } catch (const creel::timed_out& e) {
                    first = e;
                }
                try {
                    n.async([] {}).get();
                } catch (const creel::task_cancelled& e) {
                    second = e;
                }
            });
            if (first && second) {
                late = first->what();
                limit = first->limit();
                refused = second->what();
            }
        });
    });
    CHECK_THAT(late, Catch::StartsWith("timed out"));
    CHECK_THAT(refused, Catch::StartsWith("cancelled before it started"));
    CHECK(limit == 1ms);
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

TEST_CASE("a race that cannot spawn all its children cancels the others and says so") {
    std::optional<bool> refused;
    bool was_cancelled = false;
    const auto left = run_virtually([&] {
        creel::nursery n = creel::detail::nursery_access::open(
            {.on_error = creel::collect(), .name = "race"}, std::source_location::current());
        creel::detail::race_core race{n};
        race.begin([&] {
            n.spawn([&] {
                try {
                    creel::this_fiber::sleep_for(1h);
                } catch (const creel::cancelled&) {
                    was_cancelled = true;
                    throw;
                }
            });
            n.spawn([&] {
                creel::shield([] { creel::this_fiber::sleep_for(1s); });
                race.win(); // too late
            });
            creel::this_fiber::yield(); // they begin
            throw std::bad_alloc{};
        });
        try {
            race.finish();
            refused = false;
        } catch (const std::bad_alloc&) {
            refused = true;
        }
    });
    CHECK(refused == true);
    CHECK(was_cancelled);
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

namespace {

// Stacks for Boost's fibers, made while there is memory.
class ready_stacks {
public:
    static constexpr std::size_t bytes = 64 * 1024;

    explicit ready_stacks(std::size_t count) : memory_(count * bytes) {}

    boost::context::stack_context allocate() {
        boost::context::stack_context c;
        c.size = bytes;
        c.sp = memory_.data() + ++taken_ * bytes;
        return c;
    }

private:
    std::vector<char> memory_;
    std::size_t taken_ = 0;
};

struct from_ready_stacks {
    ready_stacks* all;
    boost::context::stack_context allocate() const { return all->allocate(); }
    void deallocate(boost::context::stack_context& /*one*/) const noexcept {}
};

constexpr std::size_t reserved = creel::detail::native_reserve::blocks;

// Makes this many Boost fibers without memory; each waits in a creel call.
int count_boost_fibers(std::size_t count) {
    int ran = 0;
    ready_stacks stacks{count};
    std::vector<boost::fibers::fiber> fibers;
    fibers.reserve(count);
    {
        const no_memory any;
        for (std::size_t i = 0; i < count; ++i)
            fibers.emplace_back(boost::fibers::launch::post, std::allocator_arg,
                                from_ready_stacks{&stacks}, [&ran] {
                                    creel::this_fiber::yield();
                                    ++ran;
                                });
        creel::this_fiber::yield();
    }
    for (boost::fibers::fiber& f : fibers)
        f.join();
    return ran;
}

} // namespace

TEST_CASE("Boost fibers are made although there is no memory for what is known of them") {
    int ran = 0;
    const auto left = run_virtually([&] {
        for (int round = 0; round < 2; ++round) // the reserve is used again
            ran += count_boost_fibers(reserved);
    });
    CHECK(ran == 2 * static_cast<int>(reserved));
    CHECK(left == nothing);
}

TEST_CASE("a Boost fiber too many without memory ends the process and says why") {
    if (!counts_malloc)
        return;
    const std::string told = abort_of_run([](manual_poller&) { count_boost_fibers(reserved + 1); });
    CHECK_THAT(told, Catch::Contains("no memory for one more boost::fibers::fiber"));
    CHECK_THAT(told, Catch::Contains("spawn into a nursery"));
}

TEST_CASE("a misused primitive is named although there is no memory") {
    if (!counts_malloc)
        return;
    const std::string told = abort_of([] {
        creel::wait_lock lock{"queue"};
        const no_memory any;
        CREEL_ASSERT(false, lock.says("a misuse").c_str());
    });
    CHECK_THAT(told, Catch::Contains("creel: a misuse [queue]"));
}
