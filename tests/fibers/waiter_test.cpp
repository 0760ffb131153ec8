#include <creel/fibers/waiter.hpp>

#include "support/bare_waiter.hpp"
#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/malloc_count.hpp"
#include "support/outcome.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>

#include <atomic>
#include <chrono>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

constexpr auto withdrawn = creel::withdrawal::withdrawn;
constexpr auto pending = creel::withdrawal::pending;

// True if f throws `cancelled`.
bool is_cancelled(test_body<> f) {
    return outcome_of(f).starts_with("cancelled");
}

} // namespace

TEST_CASE("a wake that comes before the park is not lost") {
    const auto left = run_virtually([] {
        bare_waiter w;
        creel::wake(w);
        CHECK(creel::park(w) == creel::wake_reason::signalled);
    });
    CHECK(left == nothing);
}

TEST_CASE("park tells whether the waiter was woken, timed out or was cancelled") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bare_waiter woken{withdrawn};
        outside.after(1s, [&] { creel::wake(woken); });
        CHECK(creel::park_until(woken, begin + 2s) == creel::wake_reason::signalled);
        bare_waiter late{withdrawn};
        CHECK(creel::park_until(late, begin + 3s) == creel::wake_reason::timed_out);
        CHECK(outside.now() == begin + 3s);
        bare_waiter cancelled{withdrawn};
        creel::wake_reason reason{};
        CHECK(creel::move_on_after(1s, [&] { reason = creel::park(cancelled); })); // throws nothing
        CHECK(reason == creel::wake_reason::cancelled);
        CHECK(outside.now() == begin + 4s);
        CHECK(woken.asked == 0);
        CHECK(late.asked == 1);
        CHECK(cancelled.asked == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE(
    "a pending waiter is asked to withdraw once, by what comes first, and waits for its wake") {
    run_virtually([](manual_poller& outside) {
        for (const bool timeout_first : {true, false}) {
            const auto begin = outside.now();
            bare_waiter w{pending};
            creel::cancel_scope scope{begin + (timeout_first ? 2s : 1s)};
            outside.after(3s, [&] { creel::wake(w); });
            CHECK(!scope.run([&] {
                const auto reason = creel::park_until(w, begin + (timeout_first ? 1s : 2s));
                CHECK(reason == creel::wake_reason::signalled); // success beats both
                CHECK(outside.now() == begin + 3s);
                creel::check_cancel(); // and the next wait throws
            }));
            CHECK(w.asked == 1);
            CHECK(w.withdraw_requested());
            CHECK(w.why ==
                  (timeout_first ? creel::wake_reason::timed_out : creel::wake_reason::cancelled));
        }
    });
}

TEST_CASE("a waiter of a kind that is not cancellable is withdrawn by its own timer only") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope scope;
        scope.run([&] {
            outside.after(1s, [&] { scope.cancel(); });
            outside.after(2s, [&] { CHECK(scope.cancel_called()); });
            bare_waiter timed{withdrawn, bare_waiter::uncancellable};
            CHECK(creel::park_until(timed, begin + 3s) == creel::wake_reason::timed_out);
            bare_waiter woken{withdrawn, bare_waiter::uncancellable};
            outside.after(1s, [&] { creel::wake(woken); });
            CHECK(creel::park(woken) == creel::wake_reason::signalled); // parked in a cancelled one
            CHECK(woken.asked == 0);
        });
        CHECK(outside.now() == begin + 4s);
    });
}

TEST_CASE("a waiter that was woken before is signalled, whatever its deadline and its scope") {
    run_virtually([](manual_poller& outside) {
        creel::cancel_scope scope;
        scope.run([&] {
            scope.cancel();
            bare_waiter w{withdrawn};
            creel::wake(w);
            CHECK(creel::park_until(w, outside.now() - 1s) == creel::wake_reason::signalled);
            CHECK(w.asked == 0);
        });
    });
}

TEST_CASE("a park in a scope that was cancelled before it is withdrawn at once") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope scope;
        scope.cancel();
        scope.run([&] {
            bare_waiter w{withdrawn};
            CHECK(creel::park_until(w, begin + 1h) == creel::wake_reason::cancelled);
        });
        CHECK(outside.now() == begin);
    });
}

TEST_CASE("park_until without memory for its timer throws once the waiter is withdrawn") {
    if (!counts_malloc) // a sanitizer's malloc is never refused
        return;
    constexpr int each = 500; // more timers than the queue has room for
    int refused = 0;
    int timed_out = 0;
    int signalled = 0;
    const auto left = run_virtually([&](manual_poller& outside) {
        gate start;
        std::vector<bare_waiter*> taken;
        taken.reserve(each);
        const auto wait = [&, deadline = outside.now() + 1s](bare_waiter& w) {
            start.pass();
            try {
                const auto reason = creel::park_until(w, deadline);
                ++(reason == creel::wake_reason::signalled ? signalled : timed_out);
            } catch (const std::bad_alloc&) {
                refused += w.asked == 1 && w.why == creel::wake_reason::timed_out;
            }
        };
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < each; ++i) {
                n.spawn([&] {
                    bare_waiter w{withdrawn};
                    wait(w);
                });
                n.spawn([&] { // a waiter whose wake is on its way waits for it, without a timer
                    bare_waiter w{pending};
                    taken.push_back(&w);
                    wait(w);
                });
            }
            creel::this_fiber::yield();
            {
                const no_memory any;
                start.open();
                creel::this_fiber::yield();
            }
            for (bare_waiter* w : taken)
                creel::wake(*w);
        });
    });
    CHECK(refused > 0);
    CHECK(refused + timed_out == each);
    CHECK(signalled == each);
    CHECK(left == nothing);
}

TEST_CASE("a waiter woken and then cancelled in the same round has its success") {
    run_virtually([](manual_poller& outside) {
        gate g;
        bool passed = false;
        creel::cancel_scope s;
        outside.next_poll([&] {
            g.let_one_pass();
            s.cancel();
        });
        CHECK(s.run([&] {
            g.pass();
            passed = true;
        }));
        CHECK(passed);
    });
}

TEST_CASE("a waiter cancelled and then woken in the same round was withdrawn: the wake goes to the "
          "next") {
    run_virtually([](manual_poller& outside) {
        gate g;
        std::string passed;
        creel::cancel_scope s;
        outside.next_poll([&] {
            s.cancel();
            g.let_one_pass();
        });
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                s.run([&] {
                    g.pass();
                    passed += "first";
                });
            });
            n.spawn([&] {
                g.pass();
                passed += "second";
            });
        });
        CHECK(passed == "second");
    });
}

TEST_CASE("a plain thread's park is woken, times out and is cancelled as a fiber's is") {
    std::vector<creel::wake_reason> reasons;
    bool next_threw = false;
    std::thread{[&] {
        bare_waiter woken;
        std::thread{[&] { creel::wake(woken); }}.join();
        reasons.push_back(creel::park(woken));
        bare_waiter late{withdrawn};
        reasons.push_back(creel::park_until(late, creel::now() + 1ms));
        bare_waiter cancelled{withdrawn};
        static_cast<void>(creel::move_on_after(1ms, [&] {
            reasons.push_back(creel::park(cancelled));
            next_threw = is_cancelled([] { creel::check_cancel(); });
        }));
    }}.join();
    CHECK(reasons == std::vector{creel::wake_reason::signalled, creel::wake_reason::timed_out,
                                 creel::wake_reason::cancelled});
    CHECK(next_threw);
}

TEST_CASE("fibers of other threads and plain threads wake a fiber that sleeps in the poller") {
    std::vector<std::string> passed(2);
    gate from_plain;
    gate from_fiber;
    gate started;
    std::thread sleeper{[&] {
        run_virtually(
            [&] {
                started.open();
                from_plain.pass();
                passed[0] = "plain";
                from_fiber.pass();
                passed[1] = "fiber";
            },
            {}, manual_poller::other_threads::yes);
    }};
    started.pass(); // this thread has no scheduler: it blocks
    from_plain.open();
    run_virtually([&] { from_fiber.open(); });
    sleeper.join();
    CHECK(passed == std::vector<std::string>{"plain", "fiber"});
}

TEST_CASE("is_here is true of a fiber's waiter on its own thread only") {
    bool elsewhere = true;
    bool of_a_thread = true;
    run_virtually([&] {
        bare_waiter w;
        CHECK(w.is_here());
        std::thread{[&] {
            elsewhere = w.is_here();
            const bare_waiter plain;
            of_a_thread = plain.is_here();
        }}.join();
    });
    CHECK(!elsewhere);
    CHECK(!of_a_thread);
}

TEST_CASE(
    "this_party tells tasks, Boost fibers and threads apart, also where one follows another") {
    std::vector<creel::party_number> seen;
    const auto note = [&] { seen.push_back(creel::this_party()); };
    for (int i = 0; i < 2; ++i)
        std::thread{note}.join();
    note();
    const auto of_this_thread = seen.back();
    run_virtually([&] {
        note();
        for (int i = 0; i < 2; ++i) // on one recycled fiber
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    note();
                    const auto mine = seen.back();
                    creel::this_fiber::yield();
                    CHECK(creel::this_party() == mine);
                });
            });
        boost::fibers::fiber{note}.join();
    });
    CHECK(creel::this_party() == of_this_thread);
    const std::set<creel::party_number> different{seen.begin(), seen.end()};
    CHECK(different.size() == 7);
    CHECK(different.count(0) == 0);
}

TEST_CASE("check_cancel_in_place spends the budget as check_cancel does, but does not yield") {
    run_virtually([] {
        bool other_ran = false;
        creel::with_nursery([&](creel::nursery& n) {
            creel::this_fiber::yield(); // the budget is full
            n.spawn([&] { other_ran = true; });
            int points = 1;
            while (creel::check_cancel_in_place())
                ++points;
            CHECK(points > 1);
            CHECK(!other_ran);
            CHECK(!creel::check_cancel_in_place()); // until it yields
            creel::this_fiber::yield();
            CHECK(other_ran);
            CHECK(creel::check_cancel_in_place());
            for (int i = 2; i < points; ++i)
                creel::check_cancel();
            CHECK(!creel::check_cancel_in_place());
        });
        creel::cancel_scope scope;
        scope.run([&] {
            scope.cancel();
            CHECK(is_cancelled([] { static_cast<void>(creel::check_cancel_in_place()); }));
        });
    });
}

TEST_CASE("check_cancel_only checks, and lets nobody run however often it is called") {
    run_virtually([] {
        creel::cancel_scope scope;
        bool other_ran = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { other_ran = true; });
            scope.run([&] {
                for (int i = 0; i < 1000; ++i)
                    creel::check_cancel_only();
                scope.cancel();
                CHECK(is_cancelled([] { creel::check_cancel_only(); }));
            });
            CHECK(!other_ran);
        });
    });
}

TEST_CASE("throw_cancelled has the reason of the scope that absorbs it") {
    run_virtually([] {
        creel::cancel_scope outer;
        creel::cancel_scope inner;
        outer.run([&] {
            inner.run([&] {
                inner.cancel("inner");
                CHECK(outcome_of([] { creel::throw_cancelled(); }) == "cancelled: inner");
                outer.cancel("outer");
                CHECK(outcome_of([] { creel::throw_cancelled(); }) == "cancelled: outer");
                inner.set_shielded(true);
                CHECK(outcome_of([] { creel::throw_cancelled(); }) == "cancelled: inner");
            });
        });
    });
}

TEST_CASE("stress: wakes from other threads are never lost", "[stress]") {
    const crowd_options options{.virtual_time = true};
    std::vector<gate> gates(members_of(options));
    std::atomic<unsigned> fibers_left{options.schedulers * options.fibers_each};
    std::atomic<int> let_through{0};
    std::atomic<int> passes{0};
    crowd everybody{"wakes from other threads", options, [&](crowd_member& me) {
                        if (me.is_fiber) {
                            for (int i = 0; me.goes_on(i, 3'000); ++i) {
                                gates[me.number].pass();
                                ++passes;
                            }
                            --fibers_left;
                        }
                        while (!me.is_fiber && fibers_left > 0)
                            for (gate& g : gates)
                                let_through += g.let_one_pass();
                    }};
    everybody.join();
    CHECK(passes > 0);
    CHECK(passes == let_through);
}

TEST_CASE("stress: a wake from another thread races with a timeout, and one of them wins",
          "[stress]") {
    const crowd_options options{.virtual_time = true, .time = 1s};
    gate g;
    std::atomic<unsigned> fibers_left{options.schedulers * options.fibers_each};
    std::atomic<int> let_through{0};
    std::atomic<int> signalled{0};
    std::atomic<int> timed_out{0};
    crowd everybody{"wakes and timeouts", options, [&](crowd_member& me) {
                        if (me.is_fiber) {
                            for (int i = 0; me.goes_on(i, 50'000); ++i)
                                ++(g.pass_until(creel::now() + 1ns) ? signalled : timed_out);
                            --fibers_left;
                        }
                        while (!me.is_fiber && fibers_left > 0)
                            let_through += g.let_one_pass();
                    }};
    everybody.join();
    INFO("signalled: " << signalled); // none, if the timer is always first
    CHECK(timed_out > 0);
    CHECK(signalled == let_through);
}
