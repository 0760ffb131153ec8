#include <creel/fibers/local.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <latch>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

const creel::local<std::string> word{"fallback"};
const creel::local<int> number{7};

} // namespace

TEST_CASE("a local has its fallback outside, and a value for the call of with") {
    run_virtually([] {
        CHECK(word.get() == "fallback");
        const int result = word.with("bound", [] {
            CHECK(word.get() == "bound");
            CHECK(number.get() == 7);
            word.with("inner", [] { CHECK(word.get() == "inner"); });
            number.with(8, [] {
                CHECK(word.get() == "bound");
                CHECK(number.get() == 8);
            });
            CHECK(word.get() == "bound");
            return 3;
        });
        CHECK(result == 3);
        CHECK(word.get() == "fallback");
    });
}

TEST_CASE("an exception that leaves with takes the binding along") {
    run_virtually([] {
        CHECK_THROWS_AS(word.with("bound", [] { throw std::runtime_error("out"); }),
                        std::runtime_error);
        CHECK(word.get() == "fallback");
    });
}

TEST_CASE("a child sees the bindings of its spawner at the spawn, also when they have ended") {
    run_virtually([] {
        std::string seen;
        creel::with_nursery([&](creel::nursery& n) {
            word.with(std::string(100, 'x'), [&] { // not in the string itself
                n.spawn([&] {
                    creel::this_fiber::sleep_for(1s);
                    seen = word.get();
                    creel::with_nursery([&](creel::nursery& inner) {
                        inner.spawn([&] { seen += word.get(); }); // and a grandchild
                    });
                });
            });
            n.spawn([&] { CHECK(word.get() == "fallback"); });
            CHECK(word.get() == "fallback");
        });
        CHECK(seen == std::string(200, 'x'));
    });
}

TEST_CASE("a child of async sees the bindings too, and what it binds stays its own") {
    run_virtually([] {
        word.with("spawner", [] {
            creel::with_nursery([](creel::nursery& n) {
                auto first = n.async([] {
                    return word.with("child", [] {
                        creel::this_fiber::yield();
                        return word.get();
                    });
                });
                auto second = n.async([] {
                    creel::this_fiber::yield();
                    return word.get();
                });
                CHECK(first.get() == "child");
                CHECK(second.get() == "spawner");
                CHECK(word.get() == "spawner");
            });
        });
    });
}

TEST_CASE("a recycled fiber does not see what its last task was bound to") {
    run_virtually([] {
        for (const bool bound : {true, false}) {
            const auto spawn = [bound] {
                creel::with_nursery([bound](creel::nursery& n) {
                    n.spawn([bound] {
                        creel::this_fiber::yield();
                        CHECK(word.get() == (bound ? "bound" : "fallback"));
                    });
                });
            };
            if (bound)
                word.with("bound", spawn);
            else
                spawn();
        }
    });
}

TEST_CASE("a bound value lives until with and every child spawned in it have ended, no longer") {
    run_virtually([] {
        const creel::local<std::shared_ptr<int>> shared;
        auto value = std::make_shared<int>(1);
        const std::weak_ptr<int> alive = value;
        creel::with_nursery([&](creel::nursery& n) {
            shared.with(std::move(value), [&] {
                n.spawn([&] {
                    creel::this_fiber::sleep_for(1s);
                    CHECK(*shared.get() == 1);
                });
            });
            CHECK(!alive.expired());
            creel::this_fiber::sleep_for(2s);
            CHECK(alive.expired());
            n.cancel();
            shared.with(std::make_shared<int>(2), [&] { n.spawn([] {}); }); // dropped at once
        });
    });
}

TEST_CASE("a value that can only be moved may be bound") {
    const creel::local<std::unique_ptr<int>> owner;
    CHECK(owner.get() == nullptr);
    owner.with(std::make_unique<int>(4), [&] { CHECK(*owner.get() == 4); });
}

namespace {
// This many bindings in each other, and a child that is the last to hold them all.
void bind(int left, creel::nursery& n) {
    if (left == 0)
        n.spawn([] { CHECK(number.get() == 1); });
    else
        number.with(left, [&] { bind(left - 1, n); });
}
} // namespace

TEST_CASE("bindings nest 10,000 deep and go without running out of stack") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) { bind(under_tsan ? 2'000 : 10'000, n); });
    });
}

TEST_CASE("a plain thread has bindings of its own, and a run begins with those of its thread") {
    word.with("main", [] {
        std::string other;
        std::thread{[&] {
            other = word.get();
            word.with("other", [&] { other += ' ' + word.get(); });
        }}.join();
        CHECK(other == "fallback other");
        run_virtually([] {
            CHECK(word.get() == "main");
            creel::with_nursery(
                [](creel::nursery& n) { n.spawn([] { CHECK(word.get() == "main"); }); });
        });
    });
}

TEST_CASE("a Boost fiber has bindings of its own") {
    run_virtually([] {
        word.with("bound", [] {
            std::string seen;
            boost::fibers::fiber native{[&] {
                seen = word.get();
                word.with("native", [&] {
                    creel::this_fiber::sleep_for(1s);
                    seen += ' ' + word.get();
                });
            }};
            native.join();
            CHECK(seen == "fallback native");
            CHECK(word.get() == "bound");
        });
    });
}

TEST_CASE("a spawn that failed leaves no binding to the task that is used again") {
    struct unwilling { // as large as the small closures behind it
        unwilling() = default;
        unwilling(const unwilling&) { throw std::runtime_error("not copied"); }
        void operator()() const {}
    };
    run_virtually([] {
        std::string seen;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([] {}); // its task is there to be used again
            creel::this_fiber::yield();
            word.with("bound", [&] {
                n.spawn([] { creel::this_fiber::sleep_for(1s); }); // keeps the binding alive
                const unwilling f;
                CHECK_THROWS_AS(n.spawn(f), std::runtime_error);
            });
            n.spawn([&seen] { seen = word.get(); });
        });
        CHECK(seen == "fallback");
    });
}

TEST_CASE("a report() handler sees what the child that failed was bound to") {
    run_virtually([] {
        std::string seen;
        auto handler = [&](std::exception_ptr, const creel::task_info&) { seen += word.get(); };
        creel::with_nursery({.on_error = creel::report(handler)}, [](creel::nursery& n) {
            word.with("spawner", [&] {
                n.spawn([] { throw std::runtime_error("bad"); });
                static_cast<void>(n.async([] { throw std::runtime_error("bad"); }));
            });
        });
        CHECK(seen == "spawnerspawner");
    });
}

TEST_CASE("a blocking call sees the bindings of its caller, and its thread forgets them") {
    run_virtually(
        [] {
            creel::detail::blocking_pool pool{1};
            for (const bool abandon : {false, true}) {
                const auto read = [&] {
                    return creel::detail::blocking_on(
                        pool, {.abandon = abandon},
                        [] {
                            const std::string seen = word.get();
                            return seen + word.with(" inner", [] { return word.get(); });
                        },
                        std::source_location::current());
                };
                CHECK(word.with("caller", read) == "caller inner");
                CHECK(read() == "fallback inner");
            }
        },
        {}, manual_poller::other_threads::yes);
}

TEST_CASE("what comes through a remote handle sees the fallback, whoever hands it in") {
    const creel::local<int> x{1};
    int seen_from_here = 0;
    int seen_from_a_thread = 0;
    run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) {
                const auto remote = n.remote();
                x.with(7, [&] { CHECK(remote.spawn([&] { seen_from_here = x.get(); })); });
                std::thread{[&] {
                    x.with(9, [&] { CHECK(remote.spawn([&] { seen_from_a_thread = x.get(); })); });
                }}.join();
            });
        },
        {}, manual_poller::other_threads::yes);
    CHECK(seen_from_here == 1);
    CHECK(seen_from_a_thread == 1);
}

TEST_CASE("what an abandoned blocking call was bound to lives as long as the call") {
    const creel::local<std::shared_ptr<int>> shared;
    auto value = std::make_shared<int>(1);
    const std::weak_ptr<int> alive = value;
    std::latch running{1};
    std::latch go_on{1};
    std::atomic<int> seen{0};
    {
        creel::detail::blocking_pool pool{1};
        run_virtually(
            [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] {
                        running.wait();
                        n.cancel();
                    });
                    shared.with(std::move(value), [&] {
                        creel::detail::blocking_on(
                            pool, {.abandon = true},
                            [&] {
                                running.count_down();
                                go_on.wait();
                                seen = *shared.get();
                            },
                            std::source_location::current());
                    });
                });
            },
            {}, manual_poller::other_threads::yes);
        CHECK(!alive.expired());
        go_on.count_down();
    }
    CHECK(seen == 1);
    CHECK(alive.expired());
}
