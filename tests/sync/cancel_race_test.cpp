// Success beats cancel: two wait at a primitive, and in one instant the first of them is served and
// cancelled, in either order. `cancelled` means that it has not happened, so what was given goes to
// the second; and if it has happened, the late cancel shows at the next wait. The same with a
// deadline: asyncio's cancelled getters and putters, Kotlin's element lost on timeout, userver's
// notify-versus-deadline. One driver; each primitive says how to wait at it and how to serve one.
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
#include <creel/sync/select.hpp>
#include <creel/sync/semaphore.hpp>
#include <creel/sync/shared_mutex.hpp>
#include <creel/sync/watch.hpp>

#include "support/fixture.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

void settle() {
    for (int i = 0; i < 5; ++i)
        creel::this_fiber::yield();
}

// Whom complete() lets through: the first only, all who wait, or all if nobody has left.
enum class serves { one, all, all_together };

struct race {
    serves whom;
    std::function<void(std::size_t who)> wait;            // blocks until complete() serves it
    std::function<void()> complete;                       // does not switch
    std::function<void()> give_back = [] {};              // by one who was served, at the end
    std::function<bool()> balanced = [] { return true; }; // nothing is lost, nothing doubled
};

race event_race(event::reset_mode how) {
    const auto e = std::make_shared<event>(how);
    return {.whom = how == event::manual ? serves::all : serves::one,
            .wait = [e](std::size_t) { e->wait(); },
            .complete = [e] { e->set(); },
            .balanced = [e, how] { return e->is_set() == (how == event::manual); }};
}

race latch_race() {
    const auto l = std::make_shared<latch>(1);
    return {.whom = serves::all,
            .wait = [l](std::size_t) { l->wait(); },
            .complete = [l] { l->count_down(); },
            .balanced = [l] { return l->try_wait(); }};
}

race barrier_race() {
    const auto b = std::make_shared<barrier>(3);
    return {
        .whom = serves::all_together,
        .wait = [b](std::size_t) { b->arrive_and_wait(); },
        .complete = [b] { static_cast<void>(b->arrive()); },
        // Who left has not arrived: the phase has ended with three, or one has arrived in it.
        .balanced = [b] { return b->statistics().arrived == (b->statistics().phases ? 0 : 1); }};
}

race future_race() {
    const auto p = std::make_shared<promise<int>>();
    return {.whom = serves::all,
            .wait =
                [f = p->get_future()](std::size_t) {
                    const int value = f.get();
                    CHECK(value == 7);
                },
            .complete = [p] { p->set_value(7); },
            .balanced = [f = p->get_future()] { return f.ready(); }};
}

race broadcast_race() {
    struct state {
        broadcast<int> values{4};
        std::array<broadcast<int>::subscriber, 2> subscribers{values.subscribe(),
                                                              values.subscribe()};
        std::array<bool, 2> seen{};
    };
    const auto s = std::make_shared<state>();
    return {.whom = serves::all,
            .wait =
                [s](std::size_t who) {
                    const auto value = s->subscribers.at(who).receive();
                    CHECK(value == 5);
                    s->seen.at(who) = true;
                },
            .complete = [s] { CHECK(s->values.send(5)); },
            .balanced = [s] { // who was cancelled has the value before it still
                s->values.close();
                for (std::size_t i : {0U, 1U})
                    if (s->subscribers.at(i).receive().has_value() == s->seen.at(i))
                        return false;
                return true;
            }};
}

race watch_race() {
    struct state {
        watch<int> value{1};
        std::array<watch<int>::observer, 2> observers{value.observe(), value.observe()};
        std::array<bool, 2> seen{};
    };
    const auto s = std::make_shared<state>();
    return {.whom = serves::all,
            .wait =
                [s](std::size_t who) {
                    const auto value = s->observers.at(who).next();
                    CHECK(value == 2);
                    s->seen.at(who) = true;
                },
            .complete = [s] { s->value.set(2); },
            .balanced =
                [s] {
                    s->value.close();
                    for (std::size_t i : {0U, 1U})
                        if (s->observers.at(i).next().has_value() == s->seen.at(i))
                            return false;
                    return true;
                }};
}

race semaphore_race() {
    const auto s = std::make_shared<semaphore>(1);
    s->acquire();
    return {.whom = serves::one,
            .wait = [s](std::size_t) { s->acquire(); },
            .complete = [s] { s->release(); },
            .give_back = [s] { s->release(); },
            .balanced = [s] { return s->statistics().available == 1; }};
}

race reader_race() {
    const auto m = std::make_shared<shared_mutex>();
    m->lock();
    return {.whom = serves::all,
            .wait = [m](std::size_t) { m->lock_shared_cancellable(); },
            .complete = [m] { m->unlock(); },
            .give_back = [m] { m->unlock_shared(); },
            .balanced = [m] { return m->statistics().readers == 0 && !m->statistics().locked; }};
}

template <typename Mutex>
race writer_race() {
    const auto m = std::make_shared<Mutex>();
    m->lock();
    return {.whom = serves::one,
            .wait = [m](std::size_t) { m->lock_cancellable(); },
            .complete = [m] { m->unlock(); },
            .give_back = [m] { m->unlock(); },
            .balanced = [m] { return !m->statistics().locked; }};
}

race condition_race() {
    struct state {
        mutex m{};
        condition_variable changed{};
    };
    const auto s = std::make_shared<state>();
    return {.whom = serves::one,
            .wait =
                [s](std::size_t) {
                    std::unique_lock hold{s->m};
                    try {
                        s->changed.wait(hold);
                    } catch (const creel::cancelled&) {
                        CHECK(s->m.owned());
                        throw;
                    }
                    CHECK(s->m.owned());
                },
            .complete = [s] { s->changed.notify_one(); },
            .balanced = [s] { return s->changed.statistics().waiting == 0; }};
}

race pool_race() {
    struct state {
        // clang 16 cannot initialize a pool where it is declared here.
        state() : p{{.limit = 1, .create = [] { return 1; }}}, held{p.acquire()} {}
        pool<int> p;
        std::optional<pool<int>::lease> held;
    };
    const auto s = std::make_shared<state>();
    return {
        .whom = serves::one,
        .wait = [s](std::size_t) { s->held.emplace(s->p.acquire()); },
        .complete = [s] { s->held.reset(); },
        .give_back = [s] { s->held.reset(); },
        .balanced = [s] { return s->p.statistics().in_use == 0 && s->p.statistics().idle == 1; }};
}

// The waits of a queue. What went in is what came out and what is in it.
struct account {
    explicit account(std::size_t capacity) : q(capacity) {}
    queue<int> q;
    queue<int> other{0};
    int in = 0;
    int out = 0;
    void took(std::optional<int> item) { out += item.value_or(0); }
    bool balanced() {
        while (const auto item = q.try_pop())
            took(item);
        return in == out && q.statistics().pushers + q.statistics().poppers == 0;
    }
};

enum class popping { pop, pop_some, select };

race pop_race(popping how, std::size_t capacity) {
    const auto a = std::make_shared<account>(capacity);
    return {.whom = serves::one,
            .wait =
                [a, how](std::size_t) {
                    std::array<int, 3> some{};
                    if (how == popping::pop) {
                        a->took(a->q.pop());
                    } else if (how == popping::pop_some) {
                        const auto count = a->q.pop_some(some);
                        CHECK(count == 1);
                        a->took(some[0]);
                    } else {
                        select(on_pop(a->other, [](std::optional<int>) {}),
                               on_pop(a->q, [&](std::optional<int> item) { a->took(item); }));
                    }
                },
            .complete = [a] { a->in += a->q.try_push(5) ? 5 : 0; },
            .balanced = [a] { return a->in == 5 && a->balanced(); }};
}

race push_race(bool by_select, std::size_t capacity) {
    const auto a = std::make_shared<account>(capacity);
    if (capacity != 0) {
        CHECK(a->q.push(100));
        a->in = 100;
    }
    return {.whom = serves::one,
            .wait =
                [a, by_select](std::size_t who) {
                    int item = 1 + static_cast<int>(who);
                    bool in = false;
                    if (by_select)
                        select(on_push(a->q, item, [&](bool pushed) { in = pushed; }),
                               on_pop(a->other, [](std::optional<int>) {}));
                    else
                        in = a->q.push(item);
                    a->in += in ? item : 0;
                },
            .complete = [a] { a->took(a->q.try_pop()); },
            .balanced = [a] { return a->out != 0 && a->balanced(); }};
}

race join_race() {
    const auto q = std::make_shared<queue<int>>(1);
    CHECK(q->push(1));
    CHECK(q->pop());
    return {.whom = serves::all,
            .wait = [q](std::size_t) { q->join(); },
            .complete = [q] { q->task_done(); },
            .balanced = [q] { return q->statistics().joiners == 0; }};
}

race select_event_race() {
    const auto e = std::make_shared<event>(event::automatic);
    return {.whom = serves::one,
            .wait =
                [e](std::size_t) {
                    event never;
                    const auto happened = select(on_set(never), on_set(*e));
                    CHECK(happened == 1);
                },
            .complete = [e] { e->set(); },
            .balanced = [e] { return !e->is_set() && e->statistics().waiting == 0; }};
}

struct named_race {
    const char* name;
    std::function<race()> make;
};

const std::vector<named_race> races{
    {"manual event", [] { return event_race(event::manual); }},
    {"automatic event", [] { return event_race(event::automatic); }},
    {"latch", &latch_race},
    {"barrier", &barrier_race},
    {"future", &future_race},
    {"broadcast", &broadcast_race},
    {"watch", &watch_race},
    {"semaphore", &semaphore_race},
    {"mutex", &writer_race<mutex>},
    {"shared_mutex, readers", &reader_race},
    {"shared_mutex, writers", &writer_race<shared_mutex>},
    {"condition_variable", &condition_race},
    {"pool", &pool_race},
    {"pop", [] { return pop_race(popping::pop, 1); }},
    {"pop at a rendezvous", [] { return pop_race(popping::pop, 0); }},
    {"pop_some", [] { return pop_race(popping::pop_some, 1); }},
    {"pop_some at a rendezvous", [] { return pop_race(popping::pop_some, 0); }},
    {"select of pops", [] { return pop_race(popping::select, 1); }},
    {"select of pops at a rendezvous", [] { return pop_race(popping::select, 0); }},
    {"push", [] { return push_race(false, 1); }},
    {"push at a rendezvous", [] { return push_race(false, 0); }},
    {"select of a push", [] { return push_race(true, 1); }},
    {"select of a push at a rendezvous", [] { return push_race(true, 0); }},
    {"join", &join_race},
    {"select of events", &select_event_race},
};

enum class cut { by_cancel, by_deadline };
enum class first { completion, cut };

// Does the two things in one instant: no fiber runs in between.
void meet(const race& r, cut how, first which, creel::cancel_scope& scope, manual_poller& outside,
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

void run(const race& r, cut how, first which, manual_poller& outside) {
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
                    [&](manual_poller& outside) { run(named.make(), how, which, outside); });
                CHECK(left == nothing);
            }
}

TEST_CASE("who waits for a once that is done in the instant of its cancel goes on") {
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
                limit.acquire(); // grants the second's tokens too, for both are there by now
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
