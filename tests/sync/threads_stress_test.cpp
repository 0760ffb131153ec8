// Fibers of several schedulers and plain threads at one primitive at once, many of their waits cut
// short by a deadline, and what must hold whatever the order. (queue, select, mutex, semaphore,
// event, condition_variable and single_flight have theirs beside their own tests.)
#include <creel/sync/barrier.hpp>
#include <creel/sync/broadcast.hpp>
#include <creel/sync/future.hpp>
#include <creel/sync/latch.hpp>
#include <creel/sync/once.hpp>
#include <creel/sync/pool.hpp>
#include <creel/sync/rate_limiter.hpp>
#include <creel/sync/shared_mutex.hpp>
#include <creel/sync/watch.hpp>

#include "support/clock_poller.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

constexpr unsigned schedulers = 2;
constexpr unsigned fibers_each = 4;
constexpr unsigned plain_threads = 2;
constexpr unsigned everybody = schedulers * fibers_each + plain_threads;
constexpr unsigned rounds = under_tsan ? 60 : 300;

using random_engine = std::minstd_rand;

// Runs f(number, random) as everybody: each draws from the printed seed and its own number.
template <typename F>
void as_everybody(const char* test, F f) {
    const auto seed = printed_seed(test);
    CAPTURE(seed);
    const auto take_part = [&f, seed](unsigned number) {
        random_engine random{seed + number};
        f(number, random);
    };
    std::vector<std::thread> threads;
    for (unsigned s = 0; s < schedulers; ++s)
        threads.emplace_back([&take_part, s] {
            clock_poller outside;
            creel::run_scheduler(outside, {}, [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    for (unsigned i = 0; i < fibers_each; ++i)
                        n.spawn([&take_part, number = s * fibers_each + i] { take_part(number); });
                });
            });
        });
    for (unsigned t = 0; t < plain_threads; ++t)
        threads.emplace_back(take_part, schedulers * fibers_each + t);
    for (std::thread& t : threads)
        t.join();
}

void let_others_run() {
    if (creel::on_scheduler())
        creel::this_fiber::yield();
    else
        std::this_thread::yield();
}

// Every other time within a deadline that often passes. True if it was not cut short.
template <typename F>
bool perhaps_cut_short(random_engine& random, F f) {
    if (random() % 2 == 0) {
        f();
        return true;
    }
    return creel::move_on_after(std::chrono::microseconds{random() % 50}, f);
}

// The same until it happens.
template <typename F>
void persist(random_engine& random, F f) {
    while (!perhaps_cut_short(random, f)) {
    }
}

// Counts who is inside, and whether that was ever more than may be.
class occupancy {
public:
    explicit occupancy(int most) noexcept : most_(most) {}

    // Inside as long as this lives.
    class stay {
    public:
        explicit stay(occupancy& o) noexcept : in_(o) { in_.enter(); }
        stay(const stay&) = delete;
        stay& operator=(const stay&) = delete;
        ~stay() { in_.leave(); }

    private:
        occupancy& in_;
    };
    void enter() noexcept {
        if (++inside_ > most_)
            ++violations_;
    }
    void leave() noexcept { --inside_; }
    [[nodiscard]] int violations() const noexcept { return violations_; }

private:
    const int most_;
    std::atomic<int> inside_{0};
    std::atomic<int> violations_{0};
};

} // namespace

TEST_CASE("stress: a rate_limiter grants no more than its rate and takes nothing for who gave up",
          "[stress]") {
    const rate limit{.tokens = 1000, .per = 10ms, .burst = 5};
    rate_limiter limiter{limit};
    const auto begin = creel::clock::now();
    std::atomic<std::int64_t> taken{0};
    as_everybody("rate_limiter stress", [&](unsigned, random_engine& random) {
        for (unsigned i = 0; i < rounds; ++i) {
            const std::int64_t count = 1 + random() % 3;
            if (random() % 4 == 0)
                taken += limiter.try_acquire(count) ? count : 0;
            else if (perhaps_cut_short(random, [&] { limiter.acquire(count); }))
                taken += count;
        }
    });
    const auto elapsed = creel::clock::now() - begin;
    const auto s = limiter.statistics();
    CHECK(static_cast<std::int64_t>(s.granted) == taken);
    CHECK(s.waiting == 0);
    CHECK(taken <= limit.burst + elapsed / limit.per * limit.tokens + limit.tokens);
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
    constexpr int limit = 3;
    occupancy alive{limit};
    std::atomic<int> twice_owned{0};
    std::atomic<unsigned> creations{0};
    {
        pool<thing> things{
            {.limit = limit,
             .create =
                 [&] {
                     let_others_run();
                     if (++creations % 5 == 0)
                         throw std::runtime_error("refused");
                     return thing{alive};
                 },
             .dispose = [](thing&& broken) { const thing gone{std::move(broken)}; }}};
        as_everybody("pool stress", [&](unsigned, random_engine& random) {
            for (unsigned i = 0; i < rounds; ++i) {
                try {
                    perhaps_cut_short(random, [&] {
                        auto lease = things.acquire();
                        {
                            const occupancy::stay mine{*lease->used};
                            twice_owned += lease->used->violations();
                            let_others_run(); // may be cut short
                        }
                        if (random() % 5 == 0)
                            lease.discard();
                    });
                } catch (const std::runtime_error&) { // the creation was refused
                }
            }
        });
        const auto s = things.statistics();
        CHECK(s.in_use == 0);
        CHECK(s.waiting == 0);
    }
    CHECK(alive.violations() == 0);
    CHECK(twice_owned == 0);
}

TEST_CASE("stress: a once is done once whoever fails and whoever is cut short", "[stress]") {
    struct step {
        once done{};
        occupancy running{1};
        int times = 0; // written by the one who runs it, read by those who come after
    };
    std::deque<step> steps(rounds);
    std::atomic<int> wrong{0};
    as_everybody("once stress", [&](unsigned, random_engine& random) {
        const auto call = [&](step& s) {
            s.done.call([&] {
                const occupancy::stay mine{s.running};
                let_others_run(); // may be cut short
                if (random() % 3 == 0)
                    throw std::runtime_error("not this time");
                ++s.times;
            });
        };
        for (step& s : steps) {
            for (bool over = false; !over;) {
                try {
                    over = perhaps_cut_short(random, [&] { call(s); });
                } catch (const std::runtime_error&) { // it goes to the next, or comes back
                }
            }
            wrong += s.times != 1;
        }
    });
    CHECK(wrong == 0);
    for (const step& s : steps) {
        CHECK(s.done.done());
        CHECK(s.running.violations() == 0);
    }
}

TEST_CASE("stress: nobody passes a barrier before all have arrived", "[stress]") {
    std::atomic<std::uint64_t> completed{0};
    barrier step{everybody, [&] { ++completed; }};
    std::vector<std::atomic<unsigned>> progress(everybody);
    std::atomic<int> wrong{0};
    as_everybody("barrier stress", [&](unsigned number, random_engine& random) {
        for (unsigned round = 1; round <= rounds; ++round) {
            progress[number] = round;
            persist(random, [&] { step.arrive_and_wait(); }); // who is cut short has not arrived
            for (const auto& other : progress)
                wrong += other < round;
        }
    });
    CHECK(wrong == 0);
    CHECK(completed == rounds);
    CHECK(step.statistics().phases == rounds);
    CHECK(step.statistics().arrived == 0);
}

TEST_CASE("stress: every subscriber of a broadcast sees each value or is told how many it missed",
          "[stress]") {
    constexpr unsigned senders = 3;
    struct message {
        unsigned sender = 0;
        unsigned number = 0;
    };
    broadcast<message> news{16};
    std::vector<broadcast<message>::subscriber> subscribers;
    for (unsigned i = 0; i < everybody; ++i)
        subscribers.push_back(news.subscribe());
    std::atomic<unsigned> busy{senders};
    std::atomic<int> wrong{0};
    as_everybody("broadcast stress", [&](unsigned number, random_engine& random) {
        // The first fiber of each scheduler and a plain thread send.
        if (number % fibers_each == 0 && number / fibers_each < senders) {
            for (unsigned i = 1; i <= rounds; ++i) {
                wrong += !news.send({number / fibers_each, i});
                if (random() % 8 == 0)
                    let_others_run();
            }
            if (--busy == 0)
                news.close();
        }
        std::uint64_t accounted = 0;
        std::vector<unsigned> last(senders, 0);
        for (bool open = true; open;) {
            try {
                perhaps_cut_short(random, [&] {
                    const auto got = subscribers[number].receive();
                    open = got.has_value();
                    if (got) {
                        ++accounted;
                        wrong += got->number <= std::exchange(last[got->sender], got->number);
                    }
                });
            } catch (const lagged& late) {
                accounted += late.missed();
            }
        }
        wrong += accounted != std::uint64_t{senders} * rounds;
    });
    CHECK(wrong == 0);
    CHECK(news.statistics().waiting == 0);
}

TEST_CASE("stress: observers of a watch go forward only and see the last value", "[stress]") {
    watch<unsigned> newest{0};
    std::vector<watch<unsigned>::observer> observers;
    for (unsigned i = 0; i < everybody; ++i)
        observers.push_back(newest.observe());
    std::atomic<int> wrong{0};
    as_everybody("watch stress", [&](unsigned number, random_engine& random) {
        if (number == 0) {
            for (unsigned i = 1; i <= 10 * rounds; ++i) {
                static_cast<void>(newest.set(i));
                if (random() % 8 == 0)
                    let_others_run();
            }
            newest.close();
        }
        unsigned last = 0;
        for (bool open = true; open;)
            perhaps_cut_short(random, [&] {
                const auto got = observers[number].next();
                open = got.has_value();
                if (got)
                    wrong += *got <= std::exchange(last, *got);
            });
        wrong += last != 10 * rounds;
    });
    CHECK(wrong == 0);
    CHECK(newest.statistics().waiting == 0);
}

TEST_CASE("stress: everybody who waits for a future gets its value, error or broken promise",
          "[stress]") {
    struct result {
        promise<unsigned> from{};
        future<unsigned> value{from.get_future()};
    };
    std::deque<result> results(rounds);
    std::atomic<int> wrong{0};
    as_everybody("future stress", [&](unsigned number, random_engine& random) {
        for (unsigned i = 0; i < rounds; ++i) {
            result& r = results[i];
            if (i % everybody == number) { // its own
                if (i % 3 == 0)
                    r.from.set_value(i);
                else if (i % 3 == 1)
                    r.from.set_exception(std::make_exception_ptr(std::runtime_error("no")));
                else
                    const promise<unsigned> broken{std::move(r.from)};
            }
            unsigned kind = 3;
            while (kind == 3) {
                try {
                    perhaps_cut_short(random, [&] {
                        wrong += r.value.get() != i;
                        kind = 0;
                    });
                } catch (const std::future_error&) {
                    kind = 2;
                } catch (const std::runtime_error&) {
                    kind = 1;
                }
            }
            wrong += kind != i % 3;
        }
    });
    CHECK(wrong == 0);
}

TEST_CASE("stress: nobody passes a latch before all have counted it down", "[stress]") {
    struct step {
        latch all{everybody};
        std::atomic<unsigned> arrived{0};
    };
    std::deque<step> steps(rounds);
    std::atomic<int> wrong{0};
    as_everybody("latch stress", [&](unsigned, random_engine& random) {
        for (step& s : steps) {
            ++s.arrived;
            s.all.count_down();
            persist(random, [&] { s.all.wait(); });
            wrong += s.arrived != everybody;
        }
    });
    CHECK(wrong == 0);
}

TEST_CASE("stress: readers of a shared_mutex never meet a writer", "[stress]") {
    shared_mutex m;
    std::uint64_t first = 0; // both guarded by m, and equal
    std::uint64_t second = 0;
    occupancy writing{1};
    std::atomic<std::uint64_t> written{0};
    std::atomic<int> wrong{0};
    as_everybody("shared_mutex stress", [&](unsigned, random_engine& random) {
        for (unsigned i = 0; i < rounds; ++i)
            perhaps_cut_short(random, [&] {
                if (random() % 4 == 0) {
                    m.lock_cancellable();
                    const std::lock_guard hold{m, std::adopt_lock};
                    const occupancy::stay mine{writing};
                    ++first;
                    ++written;
                    if (random() % 2 == 0)
                        creel::shield(&let_others_run);
                    ++second;
                } else {
                    m.lock_shared_cancellable();
                    const std::shared_lock hold{m, std::adopt_lock};
                    const auto seen = first;
                    creel::shield(&let_others_run);
                    wrong += seen != first || first != second;
                }
            });
    });
    CHECK(wrong == 0);
    CHECK(writing.violations() == 0);
    CHECK(first == written);
    CHECK(second == written);
    const auto s = m.statistics();
    CHECK(!s.locked);
    CHECK(s.readers == 0);
    CHECK(s.waiting == 0);
}
