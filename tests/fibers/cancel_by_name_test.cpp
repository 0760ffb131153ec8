#include "support/clock_poller.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_by_name.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

using namespace creel::test;
using namespace std::chrono_literals;

namespace {

void run_asked(test_body<manual_poller> f, const creel::scheduler_options& options = {}) {
    CHECK(run_virtually(std::move(f), options, manual_poller::other_threads::yes) == nothing);
}

} // namespace

TEST_CASE("a cancel by name ends all nurseries of that name, and no other") {
    int cancelled = 0;
    std::string reason;
    creel::named_cancel first;
    creel::named_cancel second;
    run_asked([&] {
        gate never;
        creel::with_nursery({.name = "house"}, [&](creel::nursery& house) {
            for (int i = 0; i < 2; ++i)
                house.spawn([&] {
                    creel::with_nursery({.name = "room"}, [&](creel::nursery& room) {
                        room.spawn([&] {
                            try {
                                never.pass();
                            } catch (const creel::cancelled&) {
                                ++cancelled;
                                reason = room.scope().reason()->text;
                                throw;
                            }
                        });
                    });
                });
            settle();
            first = creel::cancel_nurseries("room", "the roof leaks", 20s);
            second = creel::cancel_nurseries("attic", "it burns", 20s);
            house.join();
            CHECK_FALSE(house.scope().cancel_called());
        });
    });
    CHECK(first.nurseries == 2);
    CHECK(first.runs_late == 0);
    CHECK(second.nurseries == 0);
    CHECK(cancelled == 2);
    CHECK(reason == "the roof leaks");
}

TEST_CASE("a cancel by name ends tasks that have not started, too") {
    creel::named_cancel answer;
    int ran = 0;
    run_asked(
        [&] {
            creel::with_nursery({.name = "crowd"}, [&](creel::nursery& n) {
                gate never;
                for (int i = 0; i < 5; ++i)
                    n.spawn([&] {
                        ++ran;
                        never.pass();
                    });
                settle();
                answer = creel::cancel_nurseries("crowd", "closed", 20s);
            });
        },
        {.max_fibers = 2});
    CHECK(answer.nurseries == 1);
    CHECK(ran == 2);
}

TEST_CASE("bug: a cancel by name leaves alone what creel itself has named") {
    bool was_cancelled = false;
    creel::named_cancel answer;
    run_asked([&] {
        gate never;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                creel::with_nursery({.name = "all"}, [&](creel::nursery& inner) {
                    inner.spawn([&] {
                        try {
                            never.pass();
                        } catch (const creel::cancelled&) {
                            was_cancelled = true;
                            throw;
                        }
                    });
                });
            });
            settle();
            answer = creel::cancel_nurseries("all", "by chance", 20s);
            settle();
            CHECK_FALSE(was_cancelled);
            n.cancel();
        });
    });
    CHECK(answer.nurseries == 0);
    CHECK(creel::is_name_of_creel("race"));
    CHECK_FALSE(creel::is_name_of_creel("root"));
}

TEST_CASE("a run that is stuck cancels by name when it goes on") {
    std::atomic<bool> is_stuck{false};
    std::atomic<bool> go_on{false};
    std::atomic<bool> was_cancelled{false};
    std::thread stuck{[&] {
        clock_poller outside;
        creel::run_scheduler(outside, {}, [&] {
            creel::with_nursery({.name = "stuck"}, [&](creel::nursery& n) {
                n.spawn([&] {
                    is_stuck = true;
                    while (!go_on)
                        std::this_thread::yield();
                });
                n.join();
            });
            creel::with_nursery({.name = "later"}, [&](creel::nursery& n) {
                n.spawn([&] { creel::this_fiber::sleep_for(1ms); });
                n.join();
                was_cancelled = n.scope().cancel_called();
            });
        });
    }};
    while (!is_stuck)
        std::this_thread::yield();
    const creel::named_cancel answer = creel::cancel_nurseries("stuck", "enough", 1ms);
    CHECK(answer.nurseries == 0);
    CHECK(answer.runs_late == 1);
    go_on = true;
    stuck.join();
    CHECK_FALSE(was_cancelled); // it had another name
}
