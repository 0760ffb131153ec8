// No wait of sync/ allocates: every call that parks is driven until it is warm, by a fiber and by a
// plain thread, and then calls of malloc are counted, by anybody in the process. (single_flight
// allocates what its callers share, and a promise its state.)
#include <creel/sync/barrier.hpp>
#include <creel/sync/broadcast.hpp>
#include <creel/sync/condition_variable.hpp>
#include <creel/sync/event.hpp>
#include <creel/sync/future.hpp>
#include <creel/sync/latch.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/once.hpp>
#include <creel/sync/pool.hpp>
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/rate_limiter.hpp>
#include <creel/sync/recursive_mutex.hpp>
#include <creel/sync/select.hpp>
#include <creel/sync/semaphore.hpp>
#include <creel/sync/shared_mutex.hpp>
#include <creel/sync/stack_queue.hpp>
#include <creel/sync/watch.hpp>

#include "support/fixture.hpp"
#include "support/malloc_count.hpp"

#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

constexpr std::size_t warm_rounds = 20;
constexpr std::size_t rounds = 120; // in all

// One way to wait, round after round: prepare, then wait on the one side, and complete on the other
// once waiting() is 1.
struct parking {
    const char* name;
    std::function<void()> wait;
    std::function<void()> complete;
    std::function<std::size_t()> waiting;
    std::function<void()> prepare = [] {};
};

// Calls `round` so often, and counts what malloc was called when it was warm.
template <typename Round>
std::uint64_t mallocs_when_warm(Round&& round) {
    std::uint64_t before = 0;
    for (std::size_t i = 0; i < rounds; ++i) {
        if (i == warm_rounds)
            before = malloc_calls();
        round();
    }
    return malloc_calls() - before;
}

void check_fibers(const parking& p) {
    std::uint64_t mallocs = 0;
    std::size_t parked = 0;
    run_virtually([&] {
        mallocs = mallocs_when_warm([&] {
            p.prepare();
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { p.wait(); });
                creel::this_fiber::yield();
                parked += p.waiting();
                p.complete();
            });
        });
    });
    CHECK(parked == rounds);
    CHECK(mallocs == 0);
}

// False if it does not become true for so long that it never will.
template <typename Condition>
bool becomes_true(Condition&& holds) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!holds()) {
        if (std::chrono::steady_clock::now() > end)
            return false;
        std::this_thread::yield();
    }
    return true;
}

void check_threads(const parking& p) {
    const creel::cancel_token stop;
    std::atomic<std::size_t> asked{0};
    std::atomic<std::size_t> ended{0};
    std::thread other{[&] {
        static_cast<void>(stop.run([&] {
            for (std::size_t i = 1; i <= rounds; ++i) {
                while (asked.load() < i && !stop.cancelled())
                    std::this_thread::yield();
                p.wait();
                ended.store(i);
            }
        }));
    }};
    std::size_t parked = 0;
    bool went_on = true;
    const std::uint64_t mallocs = mallocs_when_warm([&] {
        if (!went_on)
            return;
        p.prepare();
        const std::size_t round = ++asked;
        parked += becomes_true([&] { return p.waiting() == 1; }) ? 1 : 0;
        p.complete();
        went_on = becomes_true([&] { return ended.load() == round; });
    });
    if (!went_on)
        stop.cancel("a wake was lost");
    other.join();
    CHECK(went_on);
    CHECK(parked == rounds);
    CHECK(mallocs == 0);
}

template <typename State>
std::function<std::size_t()> waiting_at(std::shared_ptr<State> s) {
    return [s] { return s->statistics().waiting; };
}

std::vector<parking> signals() {
    const auto manual = std::make_shared<event>(event::manual);
    const auto automatic = std::make_shared<event>(event::automatic);
    const auto l = std::make_shared<std::optional<latch>>();
    const auto b = std::make_shared<barrier>(2);
    const auto permits = std::make_shared<semaphore>(2);
    return {
        {"manual event", [=] { manual->wait(); }, [=] { manual->set(); }, waiting_at(manual),
         [=] { manual->reset(); }},
        {"automatic event", [=] { automatic->wait(); }, [=] { automatic->set(); },
         waiting_at(automatic)},
        {"latch::wait", [=] { (*l)->wait(); }, [=] { (*l)->count_down(); },
         [=] { return (*l)->statistics().waiting; }, [=] { l->emplace(1); }},
        {"latch::arrive_and_wait", [=] { (*l)->arrive_and_wait(); }, [=] { (*l)->count_down(); },
         [=] { return (*l)->statistics().waiting; }, [=] { l->emplace(2); }},
        {"barrier::arrive_and_wait", [=] { b->arrive_and_wait(); },
         [=] { static_cast<void>(b->arrive()); }, waiting_at(b)},
        {"barrier::wait", [=] { b->wait(b->arrive()); }, [=] { static_cast<void>(b->arrive()); },
         waiting_at(b)},
        {"semaphore::acquire",
         [=] {
             permits->acquire(2);
             permits->release(2);
         },
         [=] { permits->release(); }, waiting_at(permits), [=] { permits->acquire(); }},
        {"semaphore::hold", [=] { static_cast<void>(permits->hold()); },
         [=] { permits->release(2); }, waiting_at(permits), [=] { permits->acquire(2); }},
    };
}

template <typename Mutex>
void add_locks(std::vector<parking>& all, const char* name) {
    const auto m = std::make_shared<Mutex>();
    const auto locked = [m] { m->lock(); };
    const auto unlock = [m] { m->unlock(); };
    all.push_back({name, [m] { const std::lock_guard hold{*m}; }, unlock, waiting_at(m), locked});
    all.push_back({name,
                   [m] {
                       m->lock_cancellable();
                       m->unlock();
                   },
                   unlock, waiting_at(m), locked});
}

std::vector<parking> locks() {
    std::vector<parking> all;
    add_locks<mutex>(all, "mutex");
    add_locks<recursive_mutex>(all, "recursive_mutex");
    add_locks<shared_mutex>(all, "shared_mutex");
    const auto readers = std::make_shared<shared_mutex>();
    all.push_back({"shared_mutex::lock_shared",
                   [=] {
                       readers->lock_shared();
                       readers->unlock_shared();
                   },
                   [=] { readers->unlock(); }, waiting_at(readers), [=] { readers->lock(); }});
    all.push_back({"shared_mutex::lock_shared_cancellable",
                   [=] {
                       readers->lock_shared_cancellable();
                       readers->unlock_shared();
                   },
                   [=] { readers->unlock(); }, waiting_at(readers), [=] { readers->lock(); }});
    struct condition {
        mutex m{};
        condition_variable changed{};
        bool holds = false;
    };
    const auto c = std::make_shared<condition>();
    const auto waiting = [c] { return c->changed.statistics().waiting; };
    all.push_back({"condition_variable",
                   [c] {
                       std::unique_lock hold{c->m};
                       c->changed.wait(hold);
                   },
                   [c] { c->changed.notify_one(); }, waiting});
    all.push_back({"condition_variable with a predicate",
                   [c] {
                       std::unique_lock hold{c->m};
                       c->changed.wait(hold, [&] { return c->holds; });
                       c->holds = false;
                   },
                   [c] {
                       const std::lock_guard hold{c->m};
                       c->holds = true;
                       c->changed.notify_all();
                   },
                   waiting});
    return all;
}

template <typename Queue>
void add_queue(std::vector<parking>& all, const char* name, std::size_t capacity) {
    const auto q = std::make_shared<Queue>(capacity);
    const auto push = [q] { static_cast<void>(q->push(1)); };
    const auto poppers = [q] { return q->statistics().poppers; };
    all.push_back({name, [q] { static_cast<void>(q->pop()); }, push, poppers});
    all.push_back({name,
                   [q] {
                       std::array<int, 2> some{};
                       static_cast<void>(q->pop_some(some));
                   },
                   push, poppers});
    all.push_back({name,
                   [q] {
                       for (const int item : *q)
                           if (item == 1)
                               break;
                   },
                   push, poppers});
    all.push_back({name,
                   [q] {
                       event never;
                       select(on_pop(*q, [](std::optional<int>) {}), on_set(never), on_timer(1h));
                   },
                   push, poppers});
    const auto full = std::make_shared<Queue>(capacity);
    for (std::size_t i = 0; i < capacity; ++i)
        static_cast<void>(full->push(1));
    const auto pop = [full] { static_cast<void>(full->pop()); };
    const auto pushers = [full] { return full->statistics().pushers; };
    all.push_back({name, [full] { static_cast<void>(full->push(1)); }, pop, pushers});
    all.push_back({name,
                   [full] {
                       int item = 1;
                       event never;
                       select(on_push(*full, item, [](bool) {}), on_set(never));
                   },
                   pop, pushers});
    if (capacity == 0)
        return;
    const auto busy = std::make_shared<Queue>(capacity);
    all.push_back({name, [busy] { busy->join(); }, [busy] { busy->task_done(); },
                   [busy] { return busy->statistics().joiners; },
                   [busy] {
                       static_cast<void>(busy->push(1));
                       static_cast<void>(busy->pop());
                   }});
}

std::vector<parking> queues() {
    std::vector<parking> all;
    add_queue<queue<int>>(all, "queue", 2);
    add_queue<queue<int>>(all, "rendezvous", 0);
    add_queue<priority_queue<int>>(all, "priority_queue", 2);
    add_queue<stack_queue<int>>(all, "stack_queue", 2);
    return all;
}

std::vector<parking> values() {
    std::vector<parking> all;
    struct hub {
        // clang 16 cannot initialize a pool where it is declared here.
        hub() : things{{.limit = 1, .create = [] { return 1; }}} {}
        broadcast<int> sender{4};
        broadcast<int>::subscriber subscriber{sender.subscribe()};
        watch<int> watched{1};
        watch<int>::observer observer{watched.observe()};
        pool<int> things;
        std::optional<pool<int>::lease> lease{};
    };
    const auto h = std::make_shared<hub>();
    all.push_back({"broadcast", [h] { static_cast<void>(h->subscriber.receive()); },
                   [h] { static_cast<void>(h->sender.send(1)); },
                   [h] { return h->sender.statistics().waiting; }});
    all.push_back({"watch", [h] { static_cast<void>(h->observer.next()); },
                   [h] { static_cast<void>(h->watched.set(1)); },
                   [h] { return h->watched.statistics().waiting; }});
    all.push_back({"pool", [h] { static_cast<void>(h->things.acquire()); },
                   [h] { h->lease.reset(); }, [h] { return h->things.statistics().waiting; },
                   [h] { h->lease.emplace(h->things.acquire()); }});
    const auto e = std::make_shared<event>(event::automatic);
    all.push_back({"select of events",
                   [e] {
                       event never;
                       select(on_set(never), on_set(*e));
                   },
                   [e] { e->set(); }, waiting_at(e)});
    return all;
}

template <typename Check>
void check_all(Check check) {
    if (!counts_malloc)
        return;
    for (const auto& family : {signals(), locks(), queues(), values()})
        for (const parking& p : family) {
            INFO(p.name << ", entry " << &p - family.data());
            check(p);
        }
}

} // namespace

TEST_CASE("no wait of a fiber allocates") {
    check_all(&check_fibers);
}

TEST_CASE("no wait of a plain thread allocates") {
    check_all(&check_threads);
}

// A promise's state is one allocation, so each round has one that was made before.
TEST_CASE("waiting for a future allocates nothing") {
    if (!counts_malloc)
        return;
    std::uint64_t mallocs = 1;
    std::size_t got = 0;
    run_virtually([&] {
        std::vector<promise<std::size_t>> promises(rounds);
        std::size_t next = 0;
        mallocs = mallocs_when_warm([&] {
            promise<std::size_t>& p = promises[next++];
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { got += p.get_future().get(); });
                n.spawn([&] {
                    event never;
                    got += select(on_ready(p.get_future(), [](std::size_t v) { return v; }),
                                  on_set(never, [] { return std::size_t{0}; }));
                });
                creel::this_fiber::yield();
                p.set_value(1U);
            });
        });
    });
    CHECK(got == 2 * rounds);
    CHECK(mallocs == 0);
}

TEST_CASE("waiting for a once allocates nothing") {
    if (!counts_malloc)
        return;
    std::uint64_t mallocs = 1;
    std::size_t parked = 0;
    run_virtually([&] {
        mallocs = mallocs_when_warm([&] {
            once o;
            creel::with_nursery([&](creel::nursery& n) {
                o.call([&] {
                    n.spawn([&] { o.call([] {}); });
                    creel::this_fiber::yield();
                    parked += o.statistics().waiting;
                });
            });
        });
    });
    CHECK(parked == rounds);
    CHECK(mallocs == 0);
}

TEST_CASE("waiting for tokens of a rate_limiter allocates nothing whether first or behind") {
    if (!counts_malloc)
        return;
    std::uint64_t mallocs = 1;
    std::size_t parked = 0;
    run_virtually([&] {
        rate_limiter limit{{.tokens = 1, .per = 1s, .burst = 1}};
        limit.acquire();
        mallocs = mallocs_when_warm([&] {
            creel::with_nursery([&](creel::nursery& n) {
                for (int i = 0; i < 3; ++i)
                    n.spawn([&] { limit.acquire(); });
                creel::this_fiber::yield();
                parked += limit.statistics().waiting;
            });
        });
    });
    CHECK(parked == 3 * rounds);
    CHECK(mallocs == 0);
}
