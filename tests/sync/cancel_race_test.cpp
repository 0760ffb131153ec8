// Success beats cancel: two callers wait at a primitive, and in one instant the first of them is
// served and cancelled, in either order. `cancelled` means that the operation has not happened, so
// the thing that was given goes to the second. If it has happened, the late cancel shows at the
// next wait. The same with a deadline: asyncio's cancelled getters and putters, Kotlin's element
// lost on timeout, userver's notify-versus-deadline. There is one driver; each primitive says how
// to wait at it and how to serve one waiter.
#include <creel/sync/barrier.hpp>
#include <creel/sync/broadcast.hpp>
#include <creel/sync/condition_variable.hpp>
#include <creel/sync/event.hpp>
#include <creel/sync/future.hpp>
#include <creel/sync/latch.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/once.hpp>
#include <creel/sync/pool.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/rate_limiter.hpp>
#include <creel/sync/recursive_mutex.hpp>
#include <creel/sync/select.hpp>
#include <creel/sync/semaphore.hpp>
#include <creel/sync/shared_mutex.hpp>
#include <creel/sync/watch.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

// The waiters that complete() lets through: the first only, all, or all if none has left.
enum class serves { one, all, all_together };

struct race {
    explicit race(serves w) : whom(w) {}
    race(const race&) = delete;
    race& operator=(const race&) = delete;
    virtual ~race() = default;
    virtual void wait(std::size_t who) = 0;    // blocks until complete() serves it
    virtual void complete() = 0;               // does not switch
    virtual void give_back() {}                // by a caller that was served, at the end
    [[nodiscard]] virtual bool balanced() = 0; // nothing is lost, nothing doubled

    const serves whom;
};

template <event::reset_mode How>
struct event_race final : race {
    event_race() : race(How == event::manual ? serves::all : serves::one) {}
    void wait(std::size_t) override { e.wait(); }
    void complete() override { e.set(); }
    bool balanced() override { return e.is_set() == (How == event::manual); }

    event e{How};
};

struct latch_race final : race {
    latch_race() : race(serves::all) {}
    void wait(std::size_t) override { l.wait(); }
    void complete() override { l.count_down(); }
    bool balanced() override { return l.try_wait(); }

    latch l{1};
};

struct barrier_race final : race {
    barrier_race() : race(serves::all_together) {}
    void wait(std::size_t) override { b.arrive_and_wait(); }
    void complete() override { static_cast<void>(b.arrive()); }
    bool balanced() override {
        // A caller that left has not arrived: the phase has ended with three, or one has arrived in
        // it.
        return b.statistics().arrived == (b.statistics().phases ? 0 : 1);
    }

    barrier b{3};
};

struct future_race final : race {
    future_race() : race(serves::all) {}
    void wait(std::size_t) override {
        const int value = f.get();
        CHECK(value == 7);
    }
    void complete() override { p.set_value(7); }
    bool balanced() override { return f.ready(); }

    promise<int> p{};
    future<int> f{p.get_future()};
};

struct broadcast_race final : race {
    broadcast_race() : race(serves::all) {}
    void wait(std::size_t who) override {
        const auto value = subscribers.at(who).receive();
        CHECK(value == 5);
        seen.at(who) = true;
    }
    void complete() override {
        const bool sent = values.send(5);
        CHECK(sent);
    }
    bool balanced() override { // a cancelled caller still has the value before it
        values.close();
        for (std::size_t i : {0U, 1U})
            if (subscribers.at(i).receive().has_value() == seen.at(i))
                return false;
        return true;
    }

    broadcast<int> values{4};
    std::array<broadcast<int>::subscriber, 2> subscribers{values.subscribe(), values.subscribe()};
    std::array<bool, 2> seen{};
};

struct watch_race final : race {
    watch_race() : race(serves::all) {}
    void wait(std::size_t who) override {
        const auto value = observers.at(who).next();
        CHECK(value == 2);
        seen.at(who) = true;
    }
    void complete() override { newest.set(2); }
    bool balanced() override { // likewise
        newest.close();
        for (std::size_t i : {0U, 1U})
            if (observers.at(i).next().has_value() == seen.at(i))
                return false;
        return true;
    }

    watch<int> newest{1};
    std::array<watch<int>::observer, 2> observers{newest.observe(), newest.observe()};
    std::array<bool, 2> seen{};
};

struct semaphore_race final : race {
    semaphore_race() : race(serves::one) { s.acquire(); }
    void wait(std::size_t) override { s.acquire(); }
    void complete() override { s.release(); }
    void give_back() override { s.release(); }
    bool balanced() override { return s.statistics().available == 1; }

    semaphore s{1};
};

struct reader_race final : race {
    reader_race() : race(serves::all) { m.lock(); }
    void wait(std::size_t) override { m.lock_shared_cancellable(); }
    void complete() override { m.unlock(); }
    void give_back() override { m.unlock_shared(); }
    bool balanced() override { return m.statistics().readers == 0 && !m.statistics().locked; }

    shared_mutex m{};
};

template <typename Mutex>
struct writer_race final : race {
    writer_race() : race(serves::one) { m.lock(); }
    void wait(std::size_t) override {
        m.lock_cancellable();
        CHECK(m.owned());
    }
    void complete() override { m.unlock(); }
    void give_back() override { m.unlock(); }
    bool balanced() override { return !m.statistics().locked; }

    Mutex m{};
};

struct condition_race final : race {
    condition_race() : race(serves::one) {}
    void wait(std::size_t) override {
        std::unique_lock hold{m};
        try {
            changed.wait(hold);
        } catch (const creel::cancelled&) {
            CHECK(m.owned());
            throw;
        }
        CHECK(m.owned());
    }
    void complete() override { changed.notify_one(); }
    bool balanced() override { return changed.statistics().waiting == 0; }

    mutex m{};
    condition_variable changed{};
};

struct pool_race final : race {
    // clang 16 cannot initialize a pool where it is declared here.
    pool_race()
        : race(serves::one), p{{.limit = 1, .create = [] { return 1; }}}, held{p.acquire()} {}
    void wait(std::size_t) override { held.emplace(p.acquire()); }
    void complete() override { held.reset(); }
    void give_back() override { held.reset(); }
    bool balanced() override { return p.statistics().in_use == 0 && p.statistics().idle == 1; }

    pool<int> p;
    std::optional<pool<int>::lease> held;
};

// The waits of a queue. The items that went in are those that came out and those still in it.
struct queue_race : race {
    explicit queue_race(std::size_t capacity) : race(serves::one), q(capacity) {}
    void took(std::optional<int> item) { out += item.value_or(0); }
    bool balanced() override {
        while (const auto item = q.try_pop())
            took(item);
        return in == out && q.statistics().pushers + q.statistics().poppers == 0;
    }

    queue<int> q;
    queue<int> other{0};
    int in = 0;
    int out = 0;
};

enum class popping { pop, pop_some, select };

template <popping How, std::size_t Capacity>
struct pop_race final : queue_race {
    pop_race() : queue_race(Capacity) {}
    void wait(std::size_t) override {
        std::array<int, 3> some{};
        if constexpr (How == popping::pop) {
            took(q.pop());
        } else if constexpr (How == popping::pop_some) {
            const auto count = q.pop_some(some);
            CHECK(count == 1);
            took(some[0]);
        } else {
            select(on_pop(other, [](std::optional<int>) {}),
                   on_pop(q, [&](std::optional<int> item) { took(item); }));
        }
    }
    void complete() override { in += q.try_push(5) ? 5 : 0; }
    bool balanced() override { return in == 5 && queue_race::balanced(); }
};

template <bool BySelect, std::size_t Capacity>
struct push_race final : queue_race {
    push_race() : queue_race(Capacity) {
        if (Capacity != 0 && q.push(100))
            in = 100;
    }
    void wait(std::size_t who) override {
        int item = 1 + static_cast<int>(who);
        bool pushed = false;
        if constexpr (BySelect)
            select(on_push(q, item, [&](bool in_it) { pushed = in_it; }),
                   on_pop(other, [](std::optional<int>) {}));
        else
            pushed = q.push(item);
        in += pushed ? item : 0;
    }
    void complete() override { took(q.try_pop()); }
    bool balanced() override { return out != 0 && queue_race::balanced(); }
};

struct join_race final : race {
    join_race() : race(serves::all) {
        CHECK(q.push(1));
        CHECK(q.pop());
    }
    void wait(std::size_t) override { q.join(); }
    void complete() override { q.task_done(); }
    bool balanced() override { return q.statistics().joiners == 0; }

    queue<int> q{1};
};

struct select_event_race final : race {
    select_event_race() : race(serves::one) {}
    void wait(std::size_t) override {
        event never;
        const auto happened = select(on_set(never), on_set(e));
        CHECK(happened == 1);
    }
    void complete() override { e.set(); }
    bool balanced() override { return !e.is_set() && e.statistics().waiting == 0; }

    event e{event::automatic};
};

template <typename Race>
std::unique_ptr<race> make() {
    return std::make_unique<Race>();
}

struct named_race {
    const char* name;
    std::unique_ptr<race> (*make)();
};

constexpr named_race races[] = {
    {"manual event", &make<event_race<event::manual>>},
    {"automatic event", &make<event_race<event::automatic>>},
    {"latch", &make<latch_race>},
    {"barrier", &make<barrier_race>},
    {"future", &make<future_race>},
    {"broadcast", &make<broadcast_race>},
    {"watch", &make<watch_race>},
    {"semaphore", &make<semaphore_race>},
    {"mutex", &make<writer_race<mutex>>},
    {"recursive_mutex", &make<writer_race<recursive_mutex>>},
    {"shared_mutex, readers", &make<reader_race>},
    {"shared_mutex, writers", &make<writer_race<shared_mutex>>},
    {"condition_variable", &make<condition_race>},
    {"pool", &make<pool_race>},
    {"pop", &make<pop_race<popping::pop, 1>>},
    {"pop at a rendezvous", &make<pop_race<popping::pop, 0>>},
    {"pop_some", &make<pop_race<popping::pop_some, 1>>},
    {"pop_some at a rendezvous", &make<pop_race<popping::pop_some, 0>>},
    {"select of pops", &make<pop_race<popping::select, 1>>},
    {"select of pops at a rendezvous", &make<pop_race<popping::select, 0>>},
    {"push", &make<push_race<false, 1>>},
    {"push at a rendezvous", &make<push_race<false, 0>>},
    {"select of a push", &make<push_race<true, 1>>},
    {"select of a push at a rendezvous", &make<push_race<true, 0>>},
    {"join", &make<join_race>},
    {"select of events", &make<select_event_race>},
};

enum class cut { by_cancel, by_deadline };
enum class first { completion, cut };

// Does the two things in one instant: no fiber runs in between.
void meet(race& r, cut how, first which, creel::cancel_scope& scope, manual_poller& outside,
          creel::time_point deadline) {
    if (which == first::completion && how == cut::by_cancel) {
        r.complete();
        scope.cancel();
    } else if (which == first::completion) {
        outside.advance(deadline - creel::now()); // it has passed, and no poll has noticed
        r.complete();
    } else if (how == cut::by_cancel) {
        scope.cancel();
        r.complete();
    } else {
        creel::this_fiber::sleep_until(deadline); // a later timer of the same poll
        r.complete();
    }
}

void run(race& r, cut how, first which, manual_poller& outside) {
    const auto deadline = creel::now() + 1s;
    creel::cancel_scope cut_short{how == cut::by_deadline ? deadline : creel::time_point::max()};
    creel::cancel_scope behind;
    std::array<bool, 2> served{};
    std::array<bool, 2> ended{};
    bool late_cancel_seen = false;
    event over;
    const auto take_part = [&](std::size_t who) {
        const bool left = !(who == 0 ? cut_short : behind).run([&] {
            r.wait(who);
            served[who] = true;
            creel::check_cancel();
        });
        if (who == 0)
            late_cancel_seen = served[0] && left;
        ended[who] = true;
        over.wait();
        if (served[who])
            r.give_back();
    };
    creel::with_nursery([&](creel::nursery& n) {
        n.spawn([&] { take_part(0); });
        settle();
        n.spawn([&] { take_part(1); });
        settle();
        meet(r, how, which, cut_short, outside, deadline);
        settle();
        CHECK(ended[0]);
        CHECK(served[0] == (which == first::completion));
        CHECK(served[1] ==
              (r.whom == serves::all || (r.whom == serves::one) == (which == first::cut)));
        if (how == cut::by_cancel)
            CHECK(late_cancel_seen == (which == first::completion));
        behind.cancel();
        over.set();
    });
    CHECK(r.balanced());
}

} // namespace

TEST_CASE("a wait that is served and then cancelled has happened, and one cancelled first leaves "
          "it to the next") {
    for (const named_race& named : races)
        for (const cut how : {cut::by_cancel, cut::by_deadline})
            for (const first which : {first::completion, first::cut}) {
                INFO(named.name << (how == cut::by_cancel ? ", a cancel" : ", a deadline")
                                << (which == first::cut ? " comes first" : " comes second"));
                const auto left = run_virtually(
                    [&](manual_poller& outside) { run(*named.make(), how, which, outside); });
                CHECK(left == nothing);
            }
}

TEST_CASE("a caller whose once is done in the instant of its cancel goes on") {
    const bool done_first = GENERATE(true, false);
    bool passed = false;
    const auto left = run_virtually([&] {
        once o;
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            o.call([&] {
                n.spawn([&] {
                    static_cast<void>(scope.run([&] {
                        o.call([] { FAIL("it is done"); });
                        passed = true;
                    }));
                });
                settle();
                CHECK(o.statistics().waiting == 1);
                if (!done_first)
                    scope.cancel();
            });
            scope.cancel(); // no fiber has run since the call returned
        });
        CHECK(o.done());
    });
    CHECK(passed == done_first);
    CHECK(left == nothing);
}

TEST_CASE("tokens granted to one behind the first in the instant of its cancel are taken") {
    const bool granted_first = GENERATE(true, false);
    bool second_has_it = false;
    const auto left = run_virtually([&](manual_poller& outside) {
        rate_limiter limit{{.tokens = 1, .per = 1s, .burst = 1}};
        limit.acquire();
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                limit.acquire(); // grants the second its tokens too, because both are there by now
                scope.cancel();
            });
            settle();
            n.spawn([&] {
                static_cast<void>(scope.run([&] {
                    limit.acquire();
                    second_has_it = true;
                }));
            });
            settle();
            CHECK(limit.statistics().waiting == 2);
            outside.advance(2s);
            if (!granted_first)
                scope.cancel();
        });
        const auto s = limit.statistics();
        CHECK(s.granted == (granted_first ? 3 : 2));
        CHECK(s.available == (granted_first ? 0 : 1));
        CHECK(s.waiting == 0);
    });
    CHECK(second_has_it == granted_first);
    CHECK(left == nothing);
}

TEST_CASE("a token that is due when its waiter's deadline passes goes to one of two, not to none") {
    bool first_has_it = false;
    creel::duration second_had_to_wait{};
    const auto left = run_virtually([&] {
        rate_limiter limit{{.tokens = 1, .per = 1s, .burst = 1}};
        limit.acquire();
        const auto begin = creel::now();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { first_has_it = creel::move_on_after(1s, [&] { limit.acquire(); }); });
            settle();
            n.spawn([&] {
                limit.acquire();
                second_had_to_wait = creel::now() - begin;
            });
        });
        CHECK(limit.statistics().granted == (first_has_it ? 3 : 2));
    });
    CHECK(second_had_to_wait == (first_has_it ? 2s : 1s));
    CHECK(left == nothing);
}

TEST_CASE("an item that comes when select's own timer is due is popped or stays") {
    const bool pushed_first = GENERATE(true, false);
    std::size_t happened = 2;
    const auto left = run_virtually([&](manual_poller& outside) {
        queue<int> q{1};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                happened = select(on_pop(q, [](std::optional<int> item) { CHECK(item == 3); }),
                                  on_timer(1s));
            });
            settle();
            if (pushed_first)
                outside.advance(1s); // no poll has noticed
            else
                creel::this_fiber::sleep_for(1s); // a later timer of the same poll
            CHECK(q.push(3));
        });
        CHECK(q.size() == happened);
        CHECK(q.statistics().poppers == 0);
    });
    CHECK(happened == (pushed_first ? 0 : 1));
    CHECK(left == nothing);
}
