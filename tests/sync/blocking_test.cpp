// The waits of sync/ inside the function given to blocking(), which runs on a plain thread.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/sync/condition_variable.hpp>
#include <creel/sync/event.hpp>
#include <creel/sync/future.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/select.hpp>
#include <creel/sync/semaphore.hpp>

#include <chrono>
#include <functional>
#include <latch>
#include <mutex>
#include <optional>
#include <source_location>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

TEST_CASE("every wait inside a blocking call ends with its caller's deadline and loses nothing") {
    const auto left = run_virtually(
        [] {
            creel::detail::blocking_pool pool{1};
            queue<int> empty{1};
            queue<int> full{1};
            CHECK(full.push(1));
            semaphore none{1};
            none.acquire();
            event unset;
            mutex held;
            held.lock();
            mutex free;
            condition_variable changed;
            promise<int> made;
            const future<int> awaited = made.get_future();
            const std::vector<std::function<void()>> waits{
                [&] { static_cast<void>(empty.pop()); },
                [&] { static_cast<void>(full.push(2)); },
                [&] { none.acquire(); },
                [&] { unset.wait(); },
                [&] { held.lock_cancellable(); },
                [&] {
                    std::unique_lock hold{free};
                    changed.wait(hold);
                },
                [&] { static_cast<void>(awaited.get()); },
                [&] { static_cast<void>(select(on_pop(empty, [](std::optional<int>) {}))); },
            };
            for (const auto& wait : waits) {
                std::latch running{1};
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] { running.wait(); }); // the clock does not move until then
                    CHECK(!creel::move_on_after(20ms, [&] {
                        creel::detail::blocking_on(
                            pool, {},
                            [&] {
                                running.count_down();
                                wait();
                            },
                            std::source_location::current());
                    }));
                });
            }
            CHECK(full.size() == 1);
            none.release();
            CHECK(none.try_acquire());
            held.unlock();
            CHECK(held.try_lock());
            held.unlock();
            CHECK(free.try_lock());
            free.unlock();
            CHECK(empty.push(1));
            CHECK(empty.pop() == 1);
        },
        {}, manual_poller::other_threads::yes);
    CHECK(left == nothing);
}
