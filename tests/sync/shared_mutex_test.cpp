// What a shared_mutex has beyond a mutex; the rest is in mutex_test.cpp.
#include <creel/sync/shared_mutex.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/occupancy.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::shared_mutex;

TEST_CASE("readers of a shared_mutex are inside together and a writer waits for the last") {
    std::string order;
    const auto left = run_virtually([&] {
        shared_mutex m;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    const std::shared_lock hold{m};
                    order += "r";
                    creel::this_fiber::sleep_for(1s);
                    order += "r";
                });
            n.spawn([&] {
                const std::lock_guard hold{m};
                order += "w";
            });
            creel::this_fiber::yield();
            CHECK(m.statistics().readers == 2);
            CHECK(m.statistics().waiting == 1);
        });
    });
    CHECK(order == "rrrrw");
    CHECK(left == nothing);
}

TEST_CASE("a reader that comes while a writer waits queues up behind it") {
    std::string order;
    const auto left = run_virtually([&] {
        shared_mutex m;
        m.lock_shared();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::lock_guard hold{m};
                order += "w";
            });
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    const std::shared_lock hold{m};
                    order += "r";
                    creel::this_fiber::yield();
                    order += "r";
                });
            n.spawn([&] {
                const std::lock_guard hold{m};
                order += "W";
            });
            creel::this_fiber::yield();
            const bool barged = m.try_lock_shared();
            CHECK(!barged);
            m.unlock_shared();
        });
    });
    CHECK(order == "wrrrrW");
    CHECK(left == nothing);
}

TEST_CASE("a writer that is cancelled lets the readers behind it go") {
    bool read = false;
    const auto left = run_virtually([&] {
        shared_mutex m;
        m.lock_shared();
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { scope.run([&] { m.lock_cancellable(); }); });
            n.spawn([&] {
                m.lock_shared_cancellable();
                read = true;
                m.unlock_shared();
            });
            creel::this_fiber::yield();
            CHECK(!read);
            scope.cancel();
            creel::this_fiber::yield();
            CHECK(read);
            m.unlock_shared();
        });
    });
    CHECK(read);
    CHECK(left == nothing);
}

TEST_CASE("stress: readers of a shared_mutex never meet a writer", "[stress]") {
    // A virtual clock cuts many more calls short, and a real clock lets more happen side by side.
    const bool virtual_time = GENERATE(false, true);
    CAPTURE(virtual_time);
    shared_mutex m;
    std::uint64_t first = 0; // both guarded by m, and equal
    std::uint64_t second = 0;
    occupancy writing{1};
    std::atomic<std::uint64_t> written{0};
    std::atomic<std::uint64_t> read{0};
    std::atomic<int> wrong{0};
    const auto write = [&](crowd_member& me) {
        m.lock_cancellable();
        const std::lock_guard hold{m, std::adopt_lock};
        const occupancy::stay mine{writing};
        ++first;
        ++written;
        if (me.random() % 2 == 0)
            creel::shield(&let_others_run);
        ++second;
    };
    const auto look = [&](crowd_member& me) {
        const auto seen = first;
        if (me.random() % 2 == 0)
            creel::shield(&let_others_run);
        wrong += seen != first || first != second;
        ++read;
    };
    const auto in_turn = [&](crowd_member& me) {
        switch (me.random() % 4) {
        case 0:
            write(me);
            break;
        case 1: {
            const std::shared_lock hold{m}; // waits also when its deadline has passed
            look(me);
            break;
        }
        default:
            m.lock_shared_cancellable();
            const std::shared_lock hold{m, std::adopt_lock};
            look(me);
        }
    };
    const crowd_options who{.virtual_time = virtual_time, .time = 500ms};
    run_crowd("shared_mutex stress", who, [&](crowd_member& me) {
        for (int i = 0; me.goes_on(i, 2'000); ++i)
            me.perhaps_cut_short([&] { in_turn(me); });
    });
    CHECK(wrong == 0);
    CHECK(read > 0);
    CHECK(writing.violations() == 0);
    CHECK(first == written);
    CHECK(second == written);
    const auto s = m.statistics();
    CHECK(!s.locked);
    CHECK(s.readers == 0);
    CHECK(s.waiting == 0);
}
