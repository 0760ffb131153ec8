#include <creel/sync/future.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/malloc_count.hpp"
#include "support/outcome.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::future;
using creel::sync::promise;

namespace {

std::future_errc code_of(const std::future_error& e) {
    return static_cast<std::future_errc>(e.code().value());
}

template <typename F>
std::exception_ptr thrown_by(const F& f) {
    try {
        f();
    } catch (...) {
        return std::current_exception();
    }
    return nullptr;
}

} // namespace

TEST_CASE("try_set keeps an open promise, and says of one that is kept that it came too late") {
    promise<std::string> p;
    const auto f = p.get_future();
    const bool first = p.try_set("first");
    std::string second_value(40, 'x');
    const bool second = p.try_set(std::move(second_value));
    const bool error = p.try_set(std::make_exception_ptr(std::runtime_error{"late"}));
    CHECK(first);
    CHECK(!second);
    CHECK(!error);
    CHECK(second_value.size() == 40); // NOLINT(bugprone-use-after-move): it was not moved from
    CHECK(f.get() == "first");
    CHECK_THROWS_AS(p.set_value("third"), std::future_error);
    p = promise<std::string>{};
    const auto g = p.get_future();
    const bool failed = p.try_set(std::make_exception_ptr(std::runtime_error{"gone"}));
    CHECK(failed);
    CHECK(outcome_of([&] { static_cast<void>(g.get()); }) == "gone");
    const bool value = p.try_set("late");
    CHECK(!value);
}

TEST_CASE("try_set of a promise of nothing, of a reference, and of an exception_ptr") {
    promise<void> done;
    const bool set = done.try_set();
    const bool again = done.try_set();
    CHECK(set);
    CHECK(!again);

    int here = 1;
    promise<int&> where;
    const auto place = where.get_future();
    const bool given = where.try_set(here);
    CHECK(given);
    place.get() = 2;
    CHECK(here == 2);
    CHECK(&place.to_std().get() == &here);

    const auto kept = std::make_exception_ptr(1);
    promise<std::exception_ptr> value;
    const bool as_value = value.try_set(kept);
    CHECK(as_value);
    CHECK(value.get_future().get() == kept);
}

TEST_CASE("a value whose construction throws in try_set leaves the promise open") {
    struct refuses {
        explicit refuses(int n) : number(n) {
            if (n < 0)
                throw std::runtime_error{"negative"};
        }
        int number;
    };
    promise<refuses> p;
    CHECK(outcome_of([&] { p.try_set(-1); }) == "negative");
    const bool set = p.try_set(1);
    CHECK(set);
    CHECK(p.get_future().get().number == 1);
}

TEST_CASE(
    "a try_set that comes while another constructs its value in vain is the one that counts") {
    struct made_by {
        explicit made_by(const std::function<int()>& make) : number(make()) {}
        int number;
    };
    promise<made_by> p;
    bool inner = false;
    const auto outcome = outcome_of([&] {
        p.try_set([&]() -> int {
            inner = p.try_set([] { return 1; });
            throw std::runtime_error{"in vain"};
        });
    });
    CHECK(inner);
    CHECK(outcome == "in vain");
    CHECK(p.get_future().get().number == 1);
}

TEST_CASE("stress: of several threads that try_set one promise exactly one succeeds", "[stress]") {
    constexpr std::size_t threads = 3;
    constexpr std::size_t rounds = 300;
    std::vector<promise<std::size_t>> promises(rounds);
    std::vector<std::vector<std::size_t>> won(threads);
    std::atomic<std::size_t> at_start{0};
    std::vector<std::thread> all;
    for (std::size_t t = 0; t < threads; ++t)
        all.emplace_back([&, t] {
            for (++at_start; at_start < threads;)
                std::this_thread::yield();
            for (std::size_t i = 0; i < rounds; ++i)
                if (promises[i].try_set(t))
                    won[t].push_back(i);
        });
    for (std::thread& t : all)
        t.join();
    std::size_t right = 0;
    for (std::size_t t = 0; t < threads; ++t)
        for (const std::size_t i : won[t])
            right += promises[i].get_future().get() == t ? 1 : 0;
    CHECK(right == rounds);
}

TEST_CASE("all waiters of a future get its value") {
    int sum = 0;
    const auto left = run_virtually([&] {
        promise<int> p;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&, f = p.get_future()] { sum += f.get(); });
            creel::this_fiber::yield();
            const auto f = p.get_future();
            CHECK(!f.ready());
            p.set_value(14);
            CHECK(f.ready());
            sum += f.get(); // no need to wait
            f.wait();
        });
    });
    CHECK(sum == 4 * 14);
    CHECK(left == nothing);
}

TEST_CASE("an exception goes to all waiters of a future") {
    int caught = 0;
    const auto left = run_virtually([&] {
        promise<void> p;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&, f = p.get_future()] {
                    try {
                        f.get();
                    } catch (const std::out_of_range&) {
                        ++caught;
                    }
                });
            creel::this_fiber::yield();
            p.set_exception(std::make_exception_ptr(std::out_of_range("no")));
        });
    });
    CHECK(caught == 2);
    CHECK(left == nothing);
}

TEST_CASE("a promise that goes without a value is broken") {
    const auto left = run_virtually([] {
        std::optional<promise<std::string>> p{std::in_place};
        const auto f = p->get_future();
        std::optional<std::future_errc> seen;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                try {
                    f.get();
                } catch (const std::future_error& e) {
                    seen = code_of(e);
                }
            });
            creel::this_fiber::yield();
            p.reset();
        });
        CHECK(seen == std::future_errc::broken_promise);
        promise<int> replaced;
        const auto old = replaced.get_future();
        replaced = promise<int>{};
        CHECK_THROWS_AS(old.get(), std::future_error);
    });
    CHECK(left == nothing);
}

TEST_CASE("a promise is broken also when there is no memory and all see the same exception") {
    std::string outcomes;
    std::exception_ptr first;
    std::exception_ptr second;
    const auto left = run_virtually([&] {
        promise<int> kept;
        const auto f = kept.get_future();
        std::future<int> theirs = f.to_std();
        const auto ask = [&] { static_cast<void>(f.get()); };
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { outcomes += outcome_of(ask) + '\n'; });
            creel::this_fiber::yield();
            const no_memory any;
            const promise<int> broken{std::move(kept)};
        });
        int refused = 0;
        {
            promise<int> again;
            const auto without = again.get_future();
            const no_memory any;
            const auto try_it = [&](auto&& call) {
                try {
                    call();
                } catch (const std::bad_alloc&) {
                    ++refused;
                } catch (const std::future_error&) {
                }
            };
            try_it([&] { static_cast<void>(without.to_std()); });
            { const promise<int> broken{std::move(again)}; }
            try_it([&] { static_cast<void>(without.get()); });
        }
        CHECK(refused == (counts_malloc ? 2 : 0));
        first = thrown_by(ask);
        second = thrown_by(ask);
        CHECK_THROWS(theirs.get());
    });
    CHECK(outcomes == "std::future_error: Broken promise\n");
    CHECK(first == second);
    CHECK(left == nothing);
}

TEST_CASE("a promise is kept once") {
    promise<int> p;
    p.set_value(1);
    try {
        p.set_value(2);
        FAIL("a second value");
    } catch (const std::future_error& e) {
        CHECK(code_of(e) == std::future_errc::promise_already_satisfied);
    }
    CHECK_THROWS_AS(p.set_exception(std::make_exception_ptr(1)), std::future_error);
    CHECK(p.get_future().get() == 1);
}

TEST_CASE("a value whose construction throws leaves the promise open") {
    struct picky {
        explicit picky(int v) : value(v) {
            if (v < 0)
                throw std::invalid_argument("negative");
        }
        int value;
    };
    promise<picky> p;
    CHECK_THROWS_AS(p.set_value(-1), std::invalid_argument);
    CHECK(!p.get_future().ready());
    p.set_value(1);
    CHECK(p.get_future().get().value == 1);
}

TEST_CASE("a future of no promise says so") {
    const future<int> f;
    CHECK(!f.valid());
    try {
        static_cast<void>(f.get());
        FAIL("a value out of nowhere");
    } catch (const std::future_error& e) {
        CHECK(code_of(e) == std::future_errc::no_state);
    }
}

TEST_CASE("a cancelled wait for a future leaves the others waiting") {
    bool got = false;
    const auto left = run_virtually([&] {
        promise<int> p;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&, f = p.get_future()] {
                CHECK(!creel::move_on_after(1s, [&] { return f.get(); }));
            });
            n.spawn([&, f = p.get_future()] { got = f.get() == 3; });
            creel::this_fiber::sleep_for(2s);
            p.set_value(3);
        });
    });
    CHECK(got);
    CHECK(left == nothing);
}

TEST_CASE("a promise that is moved to itself is still to be kept") {
    creel::sync::promise<int> p;
    const auto f = p.get_future();
    auto& same = p;
    p = std::move(same);
    p.set_value(1);
    CHECK(f.get() == 1);
}

TEST_CASE("values that can only be moved are shared by the futures of a promise") {
    promise<std::unique_ptr<int>> p;
    p.set_value(std::make_unique<int>(5));
    CHECK(*p.get_future().get() == 5);
}

TEST_CASE("a std::future gets the value of ours before and after it is there") {
    promise<std::string> p;
    auto before = p.get_future().to_std();
    p.set_value("text");
    auto after = p.get_future().to_std();
    CHECK(before.get() == "text");
    CHECK(after.get() == "text");
    promise<void> done;
    auto nothing_to_get = done.get_future().to_std();
    done.set_value();
    nothing_to_get.get();
    promise<int> failed;
    auto error = failed.get_future().to_std();
    failed.set_exception(std::make_exception_ptr(std::out_of_range("no")));
    CHECK_THROWS_AS(error.get(), std::out_of_range);
}

TEST_CASE("a std::future that is never kept breaks with our promise") {
    std::future<int> left;
    {
        const promise<int> p;
        left = p.get_future().to_std();
    }
    CHECK_THROWS_AS(left.get(), std::future_error);
}

TEST_CASE("a fiber waits for a std::future") {
    run_virtually(
        [] {
            std::promise<int> from;
            const auto f = creel::sync::from_std(from.get_future());
            CHECK(!f.ready());
            std::thread other{[&] { from.set_value(8); }};
            CHECK(f.get() == 8);
            other.join();
            const auto broken = creel::sync::from_std(std::promise<void>{}.get_future());
            CHECK_THROWS_AS(broken.get(), std::future_error);
        },
        {}, manual_poller::other_threads::yes);
}

TEST_CASE("the statistics of a future count its waiters") {
    run_virtually([] {
        promise<int> p;
        const auto f = p.get_future();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { f.wait(); });
            creel::this_fiber::yield();
            CHECK(f.statistics().waiting == 1);
            CHECK(!f.statistics().ready);
            p.set_value(1);
        });
        CHECK(f.statistics().waiting == 0);
        CHECK(f.statistics().ready);
    });
}

TEST_CASE("stress: every waiter of a future gets its value, error or broken promise", "[stress]") {
    enum kind : unsigned { value, error, broken, unknown };
    struct result {
        promise<unsigned> from{};
        future<unsigned> to{from.get_future()};
    };
    constexpr crowd_options who;
    constexpr unsigned most_rounds = 2'000;
    std::deque<result> results(most_rounds);
    std::atomic<unsigned> got{0};
    std::atomic<int> wrong{0};
    const auto keep = [](result& r, unsigned number) {
        if (number % 3 == value)
            r.from.set_value(number);
        else if (number % 3 == error)
            r.from.set_exception(std::make_exception_ptr(std::runtime_error("no")));
        else
            const promise<unsigned> gone{std::move(r.from)};
    };
    const auto wait = [&](crowd_member& me, const future<unsigned>& f, unsigned number) {
        kind seen = unknown;
        while (seen == unknown) {
            try {
                me.perhaps_cut_short([&] {
                    wrong += f.get() != number;
                    seen = value;
                });
            } catch (const std::future_error&) {
                seen = broken;
            } catch (const std::runtime_error&) {
                seen = error;
            }
        }
        wrong += seen != number % 3;
        ++got;
    };
    run_crowd("future stress", who, [&](crowd_member& me) {
        for (unsigned i = 0; i < most_rounds; ++i) {
            result& r = results[i];
            if (i % members_of(who) == me.number) // its own, which others may wait for
                keep(r, i);
            if (!me.goes_on(i, most_rounds))
                continue;
            if (me.random() % 2 == 0)
                wait(me, r.to, i);
            else
                wait(me, future<unsigned>{r.to}, i); // a future of its own
        }
    });
    CHECK(wrong == 0);
    CHECK(got > 0);
}
