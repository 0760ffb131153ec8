// nursery_options::max_children: how many children a nursery has at one time, and which spawns wait
// for room.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("spawn waits while there are max_children") {
    const auto left = run_virtually([](manual_poller& outside) {
        std::size_t most = 0;
        int ended = 0;
        const auto begin = outside.now();
        creel::with_nursery({.max_children = 3}, [&](creel::nursery& n) {
            for (int i = 0; i < 10; ++i) {
                n.spawn([&] {
                    creel::this_fiber::sleep_for(1s);
                    ++ended;
                });
                most = std::max(most, n.children());
            }
        });
        CHECK(most == 3);
        CHECK(ended == 10);
        CHECK(outside.now() - begin == 4s);
    });
    CHECK(left == nothing);
}

TEST_CASE("who waits in spawn is first come first served and nobody overtakes") {
    run_virtually([] {
        std::string order;
        creel::with_nursery({.max_children = 1}, [&](creel::nursery& limited) {
            gate g;
            limited.spawn([&] { g.pass(); });
            creel::with_nursery([&](creel::nursery& n) {
                for (char c = 'a'; c <= 'd'; ++c)
                    n.spawn([&, c] { limited.spawn([&order, c] { order += c; }); });
                creel::this_fiber::yield();
                g.open();
                // The place goes to `a` at the end of the first child; this one gets in line.
                limited.spawn([&order] { order += 'x'; });
            });
        });
        CHECK(order == "abcdx");
    });
}

TEST_CASE("spawn that waits is a cancel point and then nothing was spawned") {
    const auto left = run_virtually([] {
        bool ran = false;
        const auto owned = std::make_shared<int>(1);
        creel::with_nursery({.max_children = 1}, [&](creel::nursery& n) {
            n.spawn([] { creel::this_fiber::sleep_for(2s); });
            const bool spawned =
                creel::move_on_after(1s, [&] { n.spawn([&ran, owned] { ran = true; }); });
            CHECK(!spawned);
            CHECK(n.children() == 1);
            // Cancelled before the call; this matters at the limit only.
            creel::cancel_scope s;
            s.cancel();
            CHECK(!s.run([&] { n.spawn([&ran] { ran = true; }); }));
        });
        CHECK(!ran);
        CHECK(owned.use_count() == 1);
        creel::with_nursery({.max_children = 1}, [&](creel::nursery& n) {
            creel::cancel_scope s;
            s.cancel();
            CHECK(
                s.run([&] { n.spawn([&ran] { ran = true; }); })); // there is room: no cancel point
        });
        CHECK(ran);
    });
    CHECK(left == nothing);
}

TEST_CASE("a spawner cancelled in the round in which a place is freed loses neither") {
    run_virtually([] {
        for (const bool end_first : {true, false}) {
            int ran = 0;
            creel::with_nursery({.max_children = 1}, [&](creel::nursery& n) {
                gate g;
                creel::cancel_scope s;
                n.spawn([&] {
                    g.pass();
                    if (!end_first)
                        s.cancel();
                });
                bool spawned = false;
                creel::with_nursery([&](creel::nursery& others) {
                    others.spawn([&] { spawned = s.run([&] { n.spawn([&] { ++ran; }); }); });
                    creel::this_fiber::yield();
                    g.open();
                    creel::this_fiber::yield(); // the first child ends
                    if (end_first)
                        s.cancel();
                });
                CHECK(spawned == end_first); // success beats the late cancel
                n.spawn([&] { ++ran; });     // and the place was not lost
            });
            CHECK(ran == (end_first ? 2 : 1));
        }
    });
}

TEST_CASE("a failure while spawn waits cancels the body") {
    run_virtually([] {
        CHECK(outcome_of([] {
                  creel::with_nursery({.max_children = 1}, [](creel::nursery& n) {
                      n.spawn([] {
                          creel::this_fiber::sleep_for(1s);
                          throw std::runtime_error("boom");
                      });
                      n.spawn([] { FAIL("spawned into a cancelled nursery"); });
                  });
              }) == "boom");
    });
}

TEST_CASE("a shielded spawner waits for a place in a cancelled nursery and spawns nothing") {
    const auto left = run_virtually([] {
        bool ran = false;
        creel::with_nursery({.max_children = 1}, [&](creel::nursery& n) {
            n.spawn([&] { creel::shield([] { creel::this_fiber::sleep_for(2s); }); });
            creel::this_fiber::yield();
            n.cancel();
            creel::shield([&] { n.spawn([&] { ran = true; }); });
        });
        CHECK(!ran);
    });
    CHECK(left == nothing);
}

TEST_CASE("a report() handler may spawn another child in the place of the one that failed") {
    const auto left = run_virtually([] {
        int restarts = 0;
        std::size_t alive = 0;
        const std::function<void()> worker = [] { throw std::runtime_error("crash"); };
        const auto restart = [&](creel::nursery& n, const std::exception_ptr&,
                                 const creel::task_info&) {
            alive = n.children();
            if (++restarts < 3)
                n.spawn(worker);
        };
        creel::with_nursery({.on_error = creel::report(restart), .max_children = 1},
                            [&](creel::nursery& n) { n.spawn(worker); });
        CHECK(restarts == 3);
        CHECK(alive == 1); // the child keeps the nursery open until its handler has returned
    });
    CHECK(left == nothing);
}
