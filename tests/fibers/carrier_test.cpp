// Tasks and the carriers that run them: recycled fibers, and tasks that wait for a stack.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/memory.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <cstddef>
#include <new>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("a million tasks that never wait need one stack") {
    run_virtually([] {
        const int count = under_tsan ? 200'000 : 1'000'000;
        int ran = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < count; ++i)
                n.spawn([&] { ++ran; });
        });
        CHECK(ran == count);
        CHECK(creel::statistics().fibers_created == 1);
    });
}

TEST_CASE("tasks beyond max_fibers wait their turn, behind nobody younger, and starve nobody") {
    std::string order;
    const auto left = run_virtually(
        [&](manual_poller& outside) {
            gate opened_outside;
            creel::with_nursery([&](creel::nursery& n) {
                for (char c = 'a'; c <= 'e'; ++c)
                    n.spawn([&order, c] {
                        order += c;
                        creel::this_fiber::yield();
                    });
                outside.next_poll([&] { opened_outside.open(); });
                opened_outside.pass();
            });
        },
        {.max_fibers = 2});
    CHECK(order == "abcde");
    CHECK(left == nothing);
}

TEST_CASE("an idle fiber ends to make room for a task that needs a larger stack") {
    bool ran = false;
    run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) { n.spawn([] {}); });
            creel::with_nursery(
                [&](creel::nursery& n) { n.spawn({.stack_bytes = 1 << 20}, [&] { ran = true; }); });
        },
        {.max_fibers = 1});
    CHECK(ran);
}

TEST_CASE("a deadline ends a nursery whose children wait for a stack") {
    run_virtually(
        [] {
            bool ran = false;
            CHECK(!creel::move_on_after(1s, [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([] { creel::this_fiber::sleep_for(1h); });
                    creel::this_fiber::yield();
                    n.spawn([&] { ran = true; });
                    creel::this_fiber::sleep_for(1h);
                });
            }));
            CHECK(!ran);
        },
        {.max_fibers = 1});
}

TEST_CASE("when all fibers wait for children that can have no stack, the oldest such child fails") {
    run_virtually(
        [] {
            CHECK_THROWS_AS(creel::with_nursery([](creel::nursery& n) {
                                n.spawn([] {
                                    creel::with_nursery(
                                        [](creel::nursery& inner) { inner.spawn([] {}); });
                                });
                            }),
                            std::bad_alloc);
        },
        {.max_fibers = 1});
}

TEST_CASE("the closure of a task that gets no stack is destroyed on its nursery's own fiber") {
    const auto body = [] {
        std::string where;
        struct told {
            std::string* where;
            ~told() {
                if (where != nullptr)
                    *where = creel::this_fiber::name();
            }
            told(std::string* w) : where(w) {}
            told(told&& o) noexcept : where(std::exchange(o.where, nullptr)) {}
            void operator()() const {}
        };
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "opener"}, [&] {
                try {
                    creel::with_nursery([&](creel::nursery& inner) { inner.spawn(told{&where}); });
                } catch (const std::bad_alloc&) {
                }
            });
        });
        CHECK(where == "opener");
    };
    run_virtually(body, {.max_fibers = 1});
}

TEST_CASE("a burst of fibers gives its memory back during the run") {
    run_virtually([](manual_poller&) {
        const int count = under_tsan ? 500 : 20'000;
        gate g;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < count; ++i)
                n.spawn([&] { g.pass(); });
            creel::this_fiber::sleep_for(1s);
            g.open();
        });
        for (int i = 0; i < 60; ++i)
            creel::this_fiber::sleep_for(10s);
        CHECK(creel::statistics().fibers_alive <= 100);
    });
}

TEST_CASE("30,000 children spawned and cancelled leave memory and mappings where they were") {
    const std::size_t count = under_tsan ? 300 : 30'000;
    auto burst = [&] {
        std::size_t ended = 0;
        const auto left = run_virtually([&] {
            gate never;
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < count; ++i)
                    n.spawn([&] {
                        try {
                            never.pass();
                        } catch (const creel::cancelled&) {
                            ++ended;
                            throw;
                        }
                    });
                creel::this_fiber::sleep_for(1s);
                CHECK(never.waiting() == count);
                n.cancel();
            });
        });
        CHECK(left == nothing);
        return ended;
    };
    CHECK(burst() == count); // allocators and the C++ runtime warm up
    const auto mappings = mapping_count();
    const auto resident = resident_bytes();
    CHECK(burst() == count);
    if (!under_tsan) // its own mappings grow
        CHECK(mapping_count() <= mappings + 16);
    if (!under_asan && !under_tsan) // they keep what was freed
        CHECK(resident_bytes() <= resident + count * 168);
}
