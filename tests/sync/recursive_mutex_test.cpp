// What a recursive_mutex has beyond a mutex; the rest is in mutex_test.cpp.
#include <creel/sync/recursive_mutex.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <mutex>

using namespace creel::test;
using creel::sync::recursive_mutex;

TEST_CASE("a recursive_mutex is free when it was unlocked as often as it was locked") {
    bool other_held = false;
    const auto left = run_virtually([&] {
        recursive_mutex m;
        m.lock();
        m.lock_cancellable();
        const bool third = m.try_lock();
        CHECK(third);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::lock_guard hold{m};
                other_held = true;
            });
            for (int i = 0; i < 3; ++i) {
                creel::this_fiber::yield();
                CHECK(!other_held);
                m.unlock();
            }
        });
    });
    CHECK(other_held);
    CHECK(left == nothing);
}
