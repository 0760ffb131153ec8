// No wait of sync/ allocates. Each call that parks runs until it is warm, on a fiber and on a plain
// thread; then all calls of malloc in the process are counted. (single_flight allocates the value
// that its callers share, and a promise its state.)
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

#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/malloc_count.hpp"

#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
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
constexpr std::size_t rounds = 120;       // in all
constexpr std::size_t thread_rounds = 40; // on a busy machine each takes 10 ms

// One way to wait, round after round: prepare; then wait on one side, and complete on the other
// side once waiting() is 1.
struct parking {
    explicit parking(const char* n) : name(n) {}
    parking(const parking&) = delete;
    parking& operator=(const parking&) = delete;
    virtual ~parking() = default;
    virtual void prepare() {}
    virtual void wait() = 0;
    virtual void complete() = 0;
    [[nodiscard]] virtual std::size_t waiting() const = 0;

    const char* const name;
};

// Calls `round` again and again, and counts the calls of malloc once it is warm.
template <typename Round>
std::uint64_t mallocs_when_warm(Round&& round, std::size_t times = rounds) {
    std::uint64_t before = 0;
    for (std::size_t i = 0; i < times; ++i) {
        if (i == warm_rounds)
            before = malloc_calls();
        round();
    }
    return malloc_calls() - before;
}

void check_fibers(parking& p) {
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

void check_threads(parking& p) {
    const creel::cancel_token stop;
    std::atomic<std::size_t> asked{0};
    std::atomic<std::size_t> ended{0};
    std::thread other{[&] {
        static_cast<void>(stop.run([&] {
            for (std::size_t i = 1; i <= thread_rounds; ++i) {
                asked.wait(i - 1); // asleep: on a busy machine it then runs as soon as it is asked
                p.wait();
                ended.store(i);
            }
        }));
    }};
    std::size_t parked = 0;
    bool went_on = true;
    const auto park_once = [&] {
        if (!went_on)
            return;
        p.prepare();
        const std::size_t round = ++asked;
        asked.notify_one();
        parked += becomes_true([&] { return p.waiting() == 1; }) ? 1 : 0;
        p.complete();
        went_on = becomes_true([&] { return ended.load() == round; });
    };
    const std::uint64_t mallocs = mallocs_when_warm(park_once, thread_rounds);
    if (!went_on) {
        stop.cancel("a wake was lost"); // ends its wait, and the next one before that begins
        asked = thread_rounds + 1;
        asked.notify_one();
    }
    other.join();
    CHECK(went_on);
    CHECK(parked == thread_rounds);
    CHECK(mallocs == 0);
}

// For a primitive whose statistics count its waiters.
template <typename Primitive>
struct parking_at : parking {
    template <typename... Args>
    explicit parking_at(const char* n, Args... args) : parking(n), at(args...) {}
    [[nodiscard]] std::size_t waiting() const final { return at.statistics().waiting; }

    Primitive at;
};

struct manual_event final : parking_at<event> {
    manual_event() : parking_at("manual event", event::manual) {}
    void prepare() override { at.reset(); }
    void wait() override { at.wait(); }
    void complete() override { at.set(); }
};

struct automatic_event final : parking_at<event> {
    automatic_event() : parking_at("automatic event", event::automatic) {}
    void wait() override { at.wait(); }
    void complete() override { at.set(); }
};

struct selected_event final : parking_at<event> {
    selected_event() : parking_at("select of events", event::automatic) {}
    void wait() override {
        event never;
        select(on_set(never), on_set(at));
    }
    void complete() override { at.set(); }
};

struct latch_wait : parking {
    explicit latch_wait(const char* n = "latch::wait") : parking(n) {}
    void prepare() override { l.emplace(1); }
    void wait() override { l->wait(); }
    void complete() override { l->count_down(); }
    [[nodiscard]] std::size_t waiting() const override { return l->statistics().waiting; }

    std::optional<latch> l;
};

struct latch_arrival final : latch_wait {
    latch_arrival() : latch_wait("latch::arrive_and_wait") {}
    void prepare() override { l.emplace(2); }
    void wait() override { l->arrive_and_wait(); }
};

struct barrier_arrival : parking_at<barrier> {
    explicit barrier_arrival(const char* n = "barrier::arrive_and_wait") : parking_at(n, 2) {}
    void wait() override { at.arrive_and_wait(); }
    void complete() override { static_cast<void>(at.arrive()); }
};

struct barrier_wait final : barrier_arrival {
    barrier_wait() : barrier_arrival("barrier::wait") {}
    void wait() override { at.wait(at.arrive()); }
};

struct acquisition final : parking_at<semaphore> {
    acquisition() : parking_at("semaphore::acquire", 2) {}
    void prepare() override { at.acquire(); }
    void wait() override {
        at.acquire(2);
        at.release(2);
    }
    void complete() override { at.release(); }
};

struct permit final : parking_at<semaphore> {
    permit() : parking_at("semaphore::hold", 2) {}
    void prepare() override { at.acquire(2); }
    void wait() override { static_cast<void>(at.hold()); }
    void complete() override { at.release(2); }
};

template <typename Mutex>
struct patient_lock final : parking_at<Mutex> {
    using parking_at<Mutex>::parking_at;
    void prepare() override { this->at.lock(); }
    void wait() override { const std::lock_guard hold{this->at}; }
    void complete() override { this->at.unlock(); }
};

template <typename Mutex>
struct cancellable_lock final : parking_at<Mutex> {
    using parking_at<Mutex>::parking_at;
    void prepare() override { this->at.lock(); }
    void wait() override {
        this->at.lock_cancellable();
        this->at.unlock();
    }
    void complete() override { this->at.unlock(); }
};

struct patient_reader final : parking_at<shared_mutex> {
    patient_reader() : parking_at("shared_mutex::lock_shared") {}
    void prepare() override { at.lock(); }
    void wait() override {
        at.lock_shared();
        at.unlock_shared();
    }
    void complete() override { at.unlock(); }
};

struct cancellable_reader final : parking_at<shared_mutex> {
    cancellable_reader() : parking_at("shared_mutex::lock_shared_cancellable") {}
    void prepare() override { at.lock(); }
    void wait() override {
        at.lock_shared_cancellable();
        at.unlock_shared();
    }
    void complete() override { at.unlock(); }
};

struct notification final : parking_at<condition_variable> {
    notification() : parking_at("condition_variable") {}
    void wait() override {
        std::unique_lock hold{m};
        at.wait(hold);
    }
    void complete() override { at.notify_one(); }

    mutex m{};
};

struct condition final : parking_at<condition_variable> {
    condition() : parking_at("condition_variable with a predicate") {}
    void wait() override {
        std::unique_lock hold{m};
        at.wait(hold, [&] { return holds; });
        holds = false;
    }
    void complete() override {
        const std::lock_guard hold{m};
        holds = true;
        at.notify_all();
    }

    mutex m{};
    bool holds = false;
};

enum class popping { pop, pop_some, range_for, select };

template <typename Queue>
struct pop_wait final : parking {
    pop_wait(const char* n, std::size_t capacity, popping h) : parking(n), q(capacity), how(h) {}
    void wait() override {
        std::array<int, 2> some{};
        event never;
        switch (how) {
        case popping::pop:
            static_cast<void>(q.pop());
            break;
        case popping::pop_some:
            static_cast<void>(q.pop_some(some));
            break;
        case popping::range_for:
            for (const int item : q)
                if (item == 1)
                    break;
            break;
        case popping::select:
            select(on_pop(q, [](std::optional<int>) {}), on_set(never), on_timer(1h));
            break;
        }
    }
    void complete() override { static_cast<void>(q.push(1)); }
    [[nodiscard]] std::size_t waiting() const override { return q.statistics().poppers; }

    Queue q;
    const popping how;
};

template <typename Queue>
struct push_wait final : parking {
    push_wait(const char* n, std::size_t capacity, bool selected)
        : parking(n), q(capacity), by_select(selected) {
        for (std::size_t i = 0; i < capacity; ++i)
            static_cast<void>(q.push(1));
    }
    void wait() override {
        int item = 1;
        event never;
        if (by_select)
            select(on_push(q, item, [](bool) {}), on_set(never));
        else
            static_cast<void>(q.push(item));
    }
    void complete() override { static_cast<void>(q.pop()); }
    [[nodiscard]] std::size_t waiting() const override { return q.statistics().pushers; }

    Queue q;
    const bool by_select;
};

template <typename Queue>
struct join_wait final : parking {
    explicit join_wait(const char* n) : parking(n) {}
    void prepare() override {
        static_cast<void>(q.push(1));
        static_cast<void>(q.pop());
    }
    void wait() override { q.join(); }
    void complete() override { q.task_done(); }
    [[nodiscard]] std::size_t waiting() const override { return q.statistics().joiners; }

    Queue q{2};
};

struct reception final : parking_at<broadcast<int>> {
    reception() : parking_at("broadcast", 4) {}
    void wait() override { static_cast<void>(subscriber.receive()); }
    void complete() override { static_cast<void>(at.send(1)); }

    broadcast<int>::subscriber subscriber{at.subscribe()};
};

struct observation final : parking_at<watch<int>> {
    observation() : parking_at("watch", 1) {}
    void wait() override { static_cast<void>(observer.next()); }
    void complete() override { static_cast<void>(at.set(1)); }

    watch<int>::observer observer{at.observe()};
};

struct pool_acquisition final : parking {
    // clang 16 cannot initialize a pool where it is declared here.
    pool_acquisition() : parking("pool"), things{{.limit = 1, .create = [] { return 1; }}} {}
    void prepare() override { lease.emplace(things.acquire()); }
    void wait() override { static_cast<void>(things.acquire()); }
    void complete() override { lease.reset(); }
    [[nodiscard]] std::size_t waiting() const override { return things.statistics().waiting; }

    pool<int> things;
    std::optional<pool<int>::lease> lease{};
};

using parkings = std::vector<std::unique_ptr<parking>>;

template <typename Mutex>
void add_locks(parkings& all, const char* name) {
    all.push_back(std::make_unique<patient_lock<Mutex>>(name));
    all.push_back(std::make_unique<cancellable_lock<Mutex>>(name));
}

template <typename Queue>
void add_queue(parkings& all, const char* name, std::size_t capacity) {
    for (const auto how : {popping::pop, popping::pop_some, popping::range_for, popping::select})
        all.push_back(std::make_unique<pop_wait<Queue>>(name, capacity, how));
    for (const bool by_select : {false, true})
        all.push_back(std::make_unique<push_wait<Queue>>(name, capacity, by_select));
    if (capacity != 0)
        all.push_back(std::make_unique<join_wait<Queue>>(name));
}

parkings all_parkings() {
    parkings all;
    all.push_back(std::make_unique<manual_event>());
    all.push_back(std::make_unique<automatic_event>());
    all.push_back(std::make_unique<selected_event>());
    all.push_back(std::make_unique<latch_wait>());
    all.push_back(std::make_unique<latch_arrival>());
    all.push_back(std::make_unique<barrier_arrival>());
    all.push_back(std::make_unique<barrier_wait>());
    all.push_back(std::make_unique<acquisition>());
    all.push_back(std::make_unique<permit>());
    add_locks<mutex>(all, "mutex");
    add_locks<recursive_mutex>(all, "recursive_mutex");
    add_locks<shared_mutex>(all, "shared_mutex");
    all.push_back(std::make_unique<patient_reader>());
    all.push_back(std::make_unique<cancellable_reader>());
    all.push_back(std::make_unique<notification>());
    all.push_back(std::make_unique<condition>());
    add_queue<queue<int>>(all, "queue", 2);
    add_queue<queue<int>>(all, "rendezvous", 0);
    add_queue<priority_queue<int>>(all, "priority_queue", 2);
    add_queue<stack_queue<int>>(all, "stack_queue", 2);
    all.push_back(std::make_unique<reception>());
    all.push_back(std::make_unique<observation>());
    all.push_back(std::make_unique<pool_acquisition>());
    return all;
}

void check_all(void (*check)(parking&)) {
    if (!counts_malloc)
        return;
    const parkings all = all_parkings();
    for (std::size_t i = 0; i < all.size(); ++i) {
        INFO(all[i]->name << ", entry " << i);
        check(*all[i]);
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
