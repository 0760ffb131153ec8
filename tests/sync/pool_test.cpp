#include <creel/sync/pool.hpp>

#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/occupancy.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::pool;

TEST_CASE("a pool makes what is needed and uses it again") {
    int made = 0;
    const auto left = run_virtually([&] {
        pool<int> p{{.limit = 2, .create = [&] { return ++made; }}};
        CHECK(made == 0);
        {
            auto a = p.acquire();
            CHECK(*a == 1);
            auto b = p.acquire();
            CHECK(*b == 2);
            CHECK(p.statistics().in_use == 2);
        }
        CHECK(p.statistics().idle == 2);
        CHECK(*p.acquire() == 1); // the item that was given back last
        CHECK(made == 2);
        CHECK(p.statistics().created == 2);
    });
    CHECK(left == nothing);
}

TEST_CASE("callers that wait for a pool are served in order") {
    std::string order;
    const auto left = run_virtually([&] {
        pool<int> p{{.limit = 1, .create = [] { return 1; }}};
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b', 'c'})
                n.spawn([&, c] {
                    const auto item = p.acquire();
                    order += c;
                    creel::this_fiber::sleep_for(1s);
                });
            settle();
            CHECK(p.statistics().waiting == 2);
        });
    });
    CHECK(order == "abc");
    CHECK(left == nothing);
}

TEST_CASE("a creation that fails does not strand the next") {
    int tries = 0;
    int failed = 0;
    int got = 0;
    const auto left = run_virtually([&] {
        pool<int> p{{.limit = 1, .create = [&] {
                         creel::this_fiber::sleep_for(1s);
                         if (++tries <= 2)
                             throw std::runtime_error("refused");
                         return tries;
                     }}};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 4; ++i)
                n.spawn([&] {
                    try {
                        got += *p.acquire();
                    } catch (const std::runtime_error&) {
                        ++failed;
                    }
                });
        });
    });
    CHECK(failed == 2);
    CHECK(got == 6); // both used the third
    CHECK(left == nothing);
}

TEST_CASE("a creation that is cancelled does not strand the next") {
    bool got = false;
    const auto left = run_virtually([&] {
        pool<int> p{{.limit = 1, .create = [] {
                         creel::this_fiber::sleep_for(10s);
                         return 1;
                     }}};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn(
                [&] { CHECK(!creel::move_on_after(1s, [&] { static_cast<void>(p.acquire()); })); });
            n.spawn(
                [&] { CHECK(!creel::move_on_after(2s, [&] { static_cast<void>(p.acquire()); })); });
            n.spawn([&] { got = *p.acquire() == 1; });
        });
        CHECK(p.statistics().in_use == 0);
    });
    CHECK(got);
    CHECK(left == nothing);
}

TEST_CASE("an item that is not valid any more is disposed of and replaced") {
    std::vector<int> disposed;
    int made = 0;
    bool works = true;
    const auto left = run_virtually([&] {
        {
            pool<int> p{{.limit = 3,
                         .create = [&] { return ++made; },
                         .is_valid =
                             [&](int& item) {
                                 if (!works)
                                     throw std::runtime_error("cannot say");
                                 return item != 2;
                             },
                         .dispose = [&](int&& item) { disposed.push_back(item); }}};
            {
                auto one = p.acquire();
                auto two = p.acquire();
                auto three = p.acquire();
                three.discard();
                three.discard();
                CHECK(disposed == std::vector{3});
            } // 2 and 1 go back, 1 last
            auto a = p.acquire();
            CHECK(*a == 1);
            auto b = p.acquire();
            CHECK(*b == 4); // 2 was not valid
            CHECK(disposed == std::vector{3, 2});
        }
        CHECK(disposed.size() == 4);
        disposed.clear();
        pool<int> p{{.limit = 1,
                     .create = [&] { return ++made; },
                     .is_valid =
                         [&](int&) {
                             if (!std::exchange(works, true))
                                 throw std::runtime_error("cannot say");
                             return true;
                         },
                     .dispose = [&](int&& item) { disposed.push_back(item); }}};
        static_cast<void>(p.acquire());
        works = false;
        CHECK_THROWS_AS(p.acquire(), std::runtime_error);
        CHECK(disposed.size() == 1);
        CHECK(p.statistics().in_use == 0);
        static_cast<void>(p.acquire());
    });
    CHECK(left == nothing);
}

TEST_CASE("the dump names the pool that a fiber waits for") {
    run_virtually([] {
        pool<int> p{{.limit = 1, .create = [] { return 1; }}};
        creel::with_nursery([&](creel::nursery& n) {
            auto item = p.acquire();
            n.spawn([&] { static_cast<void>(p.acquire()); });
            creel::this_fiber::yield();
            CHECK_THAT(creel::list_fibers(), Catch::Contains("pool made at"));
        });
    });
}

TEST_CASE("a discarded item has ended before another is made in its place") {
    int alive = 0;
    int most = 0;
    struct counted {
        explicit counted(int& count) : alive_(&count) { ++count; }
        counted(counted&& other) noexcept : alive_(std::exchange(other.alive_, nullptr)) {}
        counted& operator=(counted&&) = delete;
        ~counted() {
            if (alive_ != nullptr)
                --*alive_;
        }
        int* alive_;
    };
    const auto left = run_virtually([&] {
        pool<counted> p{{.limit = 1, .create = [&] {
                             counted made{alive};
                             most = std::max(most, alive);
                             return made;
                         }}};
        auto one = p.acquire();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { auto two = p.acquire(); });
            settle();
            one.discard();
            settle();
        });
    });
    CHECK(most == 1);
    CHECK(alive == 0);
    CHECK(left == nothing);
}

TEST_CASE("a lease that was moved from or discarded refers to nothing, which is caught") {
    const auto child = run_in_child([] {
        pool<int> p{{.limit = 1, .create = [] { return 1; }}};
        auto item = p.acquire();
        auto moved = std::move(item);
        static_cast<void>(*item); // NOLINT(bugprone-use-after-move)
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("lease of a pool"));
}

TEST_CASE("stress: no more of a pool than its limit exist and none has two owners", "[stress]") {
    struct thing {
        explicit thing(occupancy& o) : alive(&o), used(std::make_unique<occupancy>(1)) {
            alive->enter();
        }
        thing(thing&& other) noexcept
            : alive(std::exchange(other.alive, nullptr)), used(std::move(other.used)) {}
        thing& operator=(thing&&) = delete;
        ~thing() {
            if (alive != nullptr)
                alive->leave();
        }
        occupancy* alive;
        std::unique_ptr<occupancy> used;
    };
    // Without a dispose function the destructor does it.
    const bool disposes = GENERATE(true, false);
    CAPTURE(disposes);
    std::function<void(thing&&)> dispose;
    if (disposes)
        dispose = [](thing&& broken) { const thing gone{std::move(broken)}; };
    constexpr int limit = 3;
    occupancy alive{limit};
    std::atomic<int> twice_owned{0};
    std::atomic<unsigned> creations{0};
    {
        pool<thing> things{{.limit = limit,
                            .create =
                                [&] {
                                    let_others_run();
                                    if (++creations % 5 == 0)
                                        throw std::runtime_error("refused");
                                    return thing{alive};
                                },
                            .dispose = dispose}};
        const auto use_one = [&](crowd_member& me) {
            auto lease = things.acquire();
            {
                const occupancy::stay mine{*lease->used};
                twice_owned += lease->used->violations();
                let_others_run(); // may be cut short
            }
            if (me.random() % 5 == 0)
                lease.discard();
        };
        run_crowd("pool stress", {}, [&](crowd_member& me) {
            for (int i = 0; me.goes_on(i, 3'000); ++i) {
                try {
                    me.perhaps_cut_short([&] { use_one(me); });
                } catch (const std::runtime_error&) { // the creation was refused
                }
            }
        });
        const auto s = things.statistics();
        CHECK(s.in_use == 0);
        CHECK(s.waiting == 0);
    }
    CHECK(creations > 0);
    CHECK(alive.inside() == 0);
    CHECK(alive.violations() == 0);
    CHECK(twice_owned == 0);
}
