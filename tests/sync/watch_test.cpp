#include <creel/sync/watch.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/hard_to_copy.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <new>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::watch;

TEST_CASE("an observer of a watch sees the newest value only") {
    std::vector<std::string> seen;
    const auto left = run_virtually([&] {
        watch<std::string> w{"a"};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&, o = w.observe()]() mutable {
                while (auto value = o.next())
                    seen.push_back(*value);
            });
            creel::this_fiber::yield();
            w.set("b");
            creel::this_fiber::yield();
            w.set("c");
            w.set("d");
            CHECK(w.get() == "d");
            creel::this_fiber::yield();
            w.set("e");
            w.close();
        });
        CHECK(w.statistics().changes == 4);
    });
    CHECK(seen == std::vector<std::string>{"b", "d", "e"});
    CHECK(left == nothing);
}

TEST_CASE("a cancelled observer sees the change the next time") {
    const auto left = run_virtually([] {
        watch<int> w{1};
        auto o = w.observe();
        CHECK(!creel::move_on_after(1s, [&] { return o.next(); }));
        w.set(2);
        CHECK(o.next() == 2);
        CHECK(!creel::move_on_after(1s, [&] { return o.next(); }));
        CHECK(w.get() == 2);
    });
    CHECK(left == nothing);
}

TEST_CASE("a closed watch keeps its value and says so") {
    watch<int> w{1};
    CHECK(w.set(2));
    w.close();
    CHECK(!w.set(3));
    CHECK(w.get() == 2);
    CHECK(w.statistics().changes == 1);
    CHECK(w.statistics().closed);
}

TEST_CASE("a value whose copy threw comes again from a watch") {
    watch<hard_to_copy> newest{hard_to_copy{0}};
    auto observer = newest.observe();
    newest.set(hard_to_copy{3});
    newest.close();
    hard_to_copy::failures = 1;
    CHECK_THROWS_AS(observer.next(), std::bad_alloc);
    CHECK(observer.next()->number == 3);
    CHECK(!observer.next().has_value());
}

TEST_CASE("stress: observers of a watch go forward only and see the last value", "[stress]") {
    constexpr crowd_options who;
    constexpr unsigned most_changes = 100'000;
    watch<unsigned> newest{0};
    std::vector<watch<unsigned>::observer> observers;
    for (unsigned i = 0; i < members_of(who); ++i)
        observers.push_back(newest.observe());
    std::atomic<unsigned> changes{0};
    std::atomic<int> wrong{0};
    run_crowd("watch stress", who, [&](crowd_member& me) {
        if (me.number == 0) {
            for (unsigned i = 0; me.goes_on(i, most_changes); ++i) {
                wrong += !newest.set(i + 1);
                changes = i + 1;
                if (me.random() % 8 == 0)
                    let_others_run();
            }
            newest.close();
        }
        unsigned last = 0;
        for (bool open = true; open && wrong == 0;)
            me.perhaps_cut_short([&] {
                const auto got = observers[me.number].next();
                open = got.has_value();
                if (got)
                    wrong += *got <= std::exchange(last, *got);
            });
        wrong += last != changes;
    });
    CHECK(wrong == 0);
    CHECK(changes > 0);
    CHECK(newest.statistics().changes == changes);
    CHECK(newest.statistics().waiting == 0);
}
