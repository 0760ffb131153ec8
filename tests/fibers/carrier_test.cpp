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

TEST_CASE("a task in line that needs a larger stack goes before the small ones that come later") {
    int before = 0;
    bool large_ran = false;
    const auto small = [&](const auto& self, creel::nursery& n, int left) -> void {
        before += large_ran ? 0 : 1;
        if (left != 0)
            n.spawn([&self, &n, left] { self(self, n, left - 1); });
    };
    run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { small(small, n, 1000); });
                n.spawn({.stack_bytes = 1 << 20}, [&] { large_ran = true; });
            });
        },
        {.max_fibers = 1});
    CHECK(large_ran);
    CHECK(before < 10);
}

TEST_CASE("a cancel takes its children out of the line behind max_fibers, and the others go on") {
    std::string order;
    const auto left = run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) {
                creel::with_nursery([&](creel::nursery& dropped) {
                    n.spawn([&] { creel::this_fiber::sleep_for(1s); }); // the only fiber
                    for (const char c : {'a', 'b', 'c', 'd'})
                        (c == 'a' || c == 'd' ? dropped : n).spawn([&order, c] { order += c; });
                    creel::this_fiber::sleep_for(1ms); // all are in line
                    dropped.cancel();
                });
                CHECK(order.empty()); // it has ended before there was a fiber
            });
        },
        {.max_fibers = 1});
    CHECK(order == "bc");
    CHECK(left == nothing);
}

TEST_CASE("a deadline drops what is in line behind max_fibers while the fibers are busy") {
    run_virtually(
        [](manual_poller& outside) {
            bool ran = false;
            bool stop = false;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    while (!stop) {
                        outside.advance(1ms);
                        creel::this_fiber::yield();
                    }
                });
                creel::this_fiber::yield();
                CHECK(!creel::move_on_after(100ms, [&] {
                    creel::with_nursery([&](creel::nursery& inner) {
                        auto t = inner.async([&] { ran = true; });
                        CHECK_THROWS_AS(t.get(), creel::cancelled);
                        creel::shield([&] { CHECK_THROWS_AS(t.get(), creel::task_cancelled); });
                        creel::this_fiber::yield();
                    });
                }));
                stop = true;
            });
            CHECK(!ran);
        },
        {.max_fibers = 1});
}

TEST_CASE("the closure of a task that a cancel drops from the line is destroyed in its own name") {
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
            n.spawn([] { creel::this_fiber::sleep_for(1h); });
            n.spawn({.name = "in line"}, told{&where});
            creel::this_fiber::sleep_for(1ms);
            n.cancel();
        });
        CHECK(where == "in line");
    };
    run_virtually(body, {.max_fibers = 1});
}

TEST_CASE("a cancel drops thousands from the line, and others run meanwhile") {
    const int count = 5000;
    const auto left = run_virtually(
        [&] {
            int ran = 0;
            int turns = 0;
            bool ended = false;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    while (!ended) {
                        ++turns;
                        creel::this_fiber::yield();
                    }
                });
                creel::with_nursery([&](creel::nursery& dropped) {
                    for (int i = 0; i < count; ++i)
                        dropped.spawn([&] { ++ran; });
                    creel::this_fiber::yield();
                    creel::this_fiber::yield();
                    turns = 0;
                    dropped.cancel();
                });
                ended = true;
            });
            CHECK(ran == 0);
            CHECK(turns > 10);
        },
        {.max_fibers = 1});
    CHECK(left == nothing);
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
    // malloc may keep the memory of the tasks' nodes; one page of each stack would be 4,096 bytes.
    // The sanitizers keep freed memory.
    if (!under_asan && !under_tsan)
        CHECK(resident_bytes() <= resident + count * 256);
}
