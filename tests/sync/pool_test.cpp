#include <creel/sync/pool.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::pool;

namespace {
void settle() {
    for (int i = 0; i < 5; ++i)
        creel::this_fiber::yield();
}
} // namespace

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
        CHECK(*p.acquire() == 1); // the last one that was given back
        CHECK(made == 2);
        CHECK(p.statistics().created == 2);
    });
    CHECK(left == nothing);
}

TEST_CASE("those who wait for a pool are served in order") {
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

TEST_CASE("what is not valid any more is disposed of and replaced") {
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

TEST_CASE("a pool destroyed while something of it is in use is a bug that is caught") {
    const auto child = run_in_child([] {
        std::optional<pool<int>> p{
            std::in_place, creel::sync::pool_options<int>{.limit = 1, .create = [] { return 1; }}};
        const auto item = p->acquire();
        p.reset();
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("pool made at"));
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

TEST_CASE("what is discarded has ended before another is made in its place") {
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

TEST_CASE("no more of a pool than its limit exist on several threads", "[stress]") {
    std::atomic<int> alive{0};
    std::atomic<int> too_many{0};
    struct counted {
        explicit counted(std::atomic<int>& c) : count(&c) { ++*count; }
        counted(counted&& other) noexcept : count(std::exchange(other.count, nullptr)) {}
        counted& operator=(counted&&) = delete;
        ~counted() {
            if (count != nullptr)
                --*count;
        }
        std::atomic<int>* count;
    };
    {
        pool<counted> p{{.limit = 2, .create = [&] { return counted{alive}; }}};
        const auto use = [&] {
            for (int i = 0; i < 300; ++i) {
                auto item = p.acquire();
                too_many += alive > 2;
                if (i % 7 == 0)
                    item.discard();
            }
        };
        std::vector<std::thread> threads;
        for (int i = 0; i < 2; ++i) {
            threads.emplace_back(use);
            threads.emplace_back([&] {
                run_virtually(
                    [&] {
                        creel::with_nursery([&](creel::nursery& n) {
                            for (int j = 0; j < 3; ++j)
                                n.spawn(use);
                        });
                    },
                    {}, manual_poller::other_threads::yes);
            });
        }
        for (auto& thread : threads)
            thread.join();
    }
    CHECK(too_many == 0);
    CHECK(alive == 0);
}
