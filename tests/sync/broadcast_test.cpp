#include <creel/sync/broadcast.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/hard_to_copy.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <cstdint>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::broadcast;
using creel::sync::lagged;

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
        CHECK(b.send(value(99))); // there is no subscriber
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
        } catch (const lagged& l) {
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

TEST_CASE("a closed broadcast says so") {
    broadcast<int> b{1};
    CHECK(!b.statistics().closed);
    b.close();
    CHECK(b.statistics().closed);
}

TEST_CASE("a value whose copy threw comes again from a broadcast") {
    broadcast<hard_to_copy> all{8};
    auto subscriber = all.subscribe();
    all.send(hard_to_copy{1});
    all.send(hard_to_copy{2});
    hard_to_copy::failures = 1;
    CHECK_THROWS_AS(subscriber.receive(), std::bad_alloc);
    CHECK(subscriber.receive()->number == 1);
    CHECK(subscriber.receive()->number == 2);
}

TEST_CASE("stress: every subscriber of a broadcast sees each value or is told how many it missed",
          "[stress]") {
    struct message {
        unsigned sender = 0;
        unsigned number = 0;
    };
    // With one sender the place of each value is known; several senders meet each other.
    const unsigned senders = GENERATE(1U, 3U);
    CAPTURE(senders);
    constexpr unsigned values_each = 20'000;
    const crowd_options who{.virtual_time = senders == 1, .time = 500ms};
    broadcast<message> news{16};
    std::vector<broadcast<message>::subscriber> subscribers;
    for (unsigned i = 0; i < members_of(who); ++i)
        subscribers.push_back(news.subscribe());
    std::atomic<unsigned> busy{senders};
    std::atomic<std::uint64_t> sent{0};
    std::atomic<int> wrong{0};
    const auto send_all = [&](crowd_member& me, unsigned sender) {
        for (unsigned i = 0; me.goes_on(i, values_each); ++i) {
            wrong += !news.send({sender, i + 1});
            ++sent;
            if (me.random() % 8 == 0)
                let_others_run();
        }
        if (--busy == 0)
            news.close();
    };
    run_crowd("broadcast stress", who, [&](crowd_member& me) {
        // The first fiber of each scheduler and a plain thread send; a single sender is the plain
        // thread.
        if (me.number % who.fibers_each == 0) {
            const unsigned sender = 2 - me.number / who.fibers_each;
            if (sender < senders)
                send_all(me, sender);
        }
        std::uint64_t accounted = 0;
        std::vector<unsigned> last(senders, 0);
        for (bool open = true; open && wrong == 0;) {
            try {
                me.perhaps_cut_short([&] {
                    const auto got = subscribers[me.number].receive();
                    open = got.has_value();
                    if (got) {
                        ++accounted;
                        wrong += got->number <= std::exchange(last[got->sender], got->number);
                        wrong += senders == 1 && got->number != accounted;
                    }
                });
            } catch (const lagged& late) {
                accounted += late.missed();
            }
        }
        wrong += accounted != sent;
    });
    CHECK(wrong == 0);
    CHECK(sent > 0);
    CHECK(news.statistics().sent == sent);
    CHECK(news.statistics().waiting == 0);
}
