// broadcast, and watch beside it.
#include <creel/sync/broadcast.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/sync/watch.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <new>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::broadcast;
using creel::sync::watch;

TEMPLATE_TEST_CASE("every subscriber of a broadcast sees each value", "", int, std::string) {
    const auto value = [](int i) {
        if constexpr (std::is_same_v<TestType, int>)
            return i;
        else
            return std::to_string(i);
    };
    int ended = 0;
    const auto left = run_virtually([&] {
        broadcast<TestType> b{4};
        CHECK(b.send(value(99))); // nobody hears
        creel::with_nursery([&](creel::nursery& n) {
            for (int who = 0; who < 3; ++who)
                n.spawn([&, s = b.subscribe()]() mutable {
                    for (int i = 0; i < 10; ++i)
                        CHECK(s.receive() == value(i));
                    CHECK(!s.receive());
                    ++ended;
                });
            for (int i = 0; i < 10; ++i) {
                CHECK(b.send(value(i)));
                creel::this_fiber::yield();
            }
            b.close();
            CHECK(!b.send(value(10)));
        });
    });
    CHECK(ended == 3);
    CHECK(left == nothing);
}

TEST_CASE("a subscriber that falls behind is told how many it has missed") {
    run_virtually([] {
        broadcast<int> b{3};
        auto s = b.subscribe();
        for (int i = 0; i < 10; ++i)
            b.send(i);
        std::uint64_t missed = 0;
        try {
            static_cast<void>(s.receive());
        } catch (const creel::sync::lagged& l) {
            missed = l.missed();
        }
        CHECK(missed == 7);
        for (int i = 7; i < 10; ++i)
            CHECK(s.receive() == i);
        for (int i = 0; i < 3; ++i)
            b.send(i);
        b.close();
        CHECK(s.receive() == 0); // three are kept: nothing was missed
        CHECK(s.receive() == 1);
        CHECK(s.receive() == 2);
        CHECK(!s.receive());
    });
}

TEST_CASE("a subscriber whose wait was cancelled misses nothing") {
    const auto left = run_virtually([](manual_poller& outside) {
        broadcast<int> b{3};
        auto s = b.subscribe();
        CHECK(!creel::move_on_after(1s, [&] { return s.receive(); }));
        CHECK(b.send(4));
        CHECK(s.receive() == 4);
        outside.after(1s, [&] { b.send(5); }); // as the deadline passes: the value was first
        const auto got = creel::move_on_after(1s, [&] { return s.receive(); });
        CHECK(got == 5);
        CHECK(b.statistics().sent == 2);
        CHECK(b.statistics().waiting == 0);
    });
    CHECK(left == nothing);
}

TEST_CASE("subscribers on several threads see each value or are told", "[stress]") {
    constexpr int values = under_tsan ? 2000 : 50'000;
    broadcast<int> b{64};
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> seen{0};
    const auto listen = [&](auto& s) {
        int last = -1;
        bool in_order = true;
        for (;;) {
            try {
                const auto value = s.receive();
                if (!value)
                    break;
                in_order = in_order && *value == last + 1;
                last = *value;
                ++seen;
            } catch (const creel::sync::lagged& l) {
                last += static_cast<int>(l.missed());
                seen += l.missed();
            }
        }
        return in_order;
    };
    std::atomic<int> right{0};
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&, s = b.subscribe()]() mutable {
            run_virtually([&] { right += listen(s); }, {}, manual_poller::other_threads::yes);
        });
        threads.emplace_back([&, s = b.subscribe()]() mutable { right += listen(s); });
    }
    for (int i = 0; i < values; ++i)
        b.send(i);
    b.close();
    for (auto& thread : threads)
        thread.join();
    CHECK(right == 4);
    CHECK(seen == 4U * values);
}

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
    broadcast<int> b{1};
    CHECK(!b.statistics().closed);
    b.close();
    CHECK(b.statistics().closed);
}

namespace {
// The copy throws as often as it was told to.
struct hard_to_copy {
    explicit hard_to_copy(int n) : number(n) {}
    hard_to_copy(const hard_to_copy& other) : number(other.number) {
        if (failures > 0) {
            --failures;
            throw std::bad_alloc{};
        }
    }
    hard_to_copy(hard_to_copy&&) = default;
    hard_to_copy& operator=(const hard_to_copy&) = default;
    hard_to_copy& operator=(hard_to_copy&&) = default;
    ~hard_to_copy() = default;

    int number;
    static int failures;
};
int hard_to_copy::failures = 0;
} // namespace

TEST_CASE("a value whose copy threw comes again, from a broadcast and from a watch") {
    broadcast<hard_to_copy> all{8};
    auto subscriber = all.subscribe();
    all.send(hard_to_copy{1});
    all.send(hard_to_copy{2});
    watch<hard_to_copy> newest{hard_to_copy{0}};
    auto observer = newest.observe();
    newest.set(hard_to_copy{3});
    newest.close();

    hard_to_copy::failures = 1;
    CHECK_THROWS_AS(subscriber.receive(), std::bad_alloc);
    CHECK(subscriber.receive()->number == 1);
    CHECK(subscriber.receive()->number == 2);

    hard_to_copy::failures = 1;
    CHECK_THROWS_AS(observer.next(), std::bad_alloc);
    CHECK(observer.next()->number == 3);
    CHECK(!observer.next().has_value());
}

TEST_CASE("a broadcast that would keep nothing is caught") {
    for (const int kept : {0, -1}) {
        const auto child = run_in_child([&] { broadcast<int> b{kept}; });
        INFO(to_string(child));
        CHECK(child.signal == SIGABRT);
        CHECK_THAT(child.stderr_text, Catch::Contains("broadcast made at"));
        CHECK_THAT(child.stderr_text, Catch::Contains("broadcast_test.cpp"));
    }
}
