#include <creel/fibers/wait_list.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/process_end.hpp"
#include "support/relay.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <pthread.h>
#include <sched.h>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// A primitive of a user's own: it hands items to the waiters, first come, first served.
class hand_over {
public:
    hand_over() = default;
    explicit hand_over(creel::wait_lock& shared) : lock_(shared) {}

    int take() {
        creel::check_cancel();
        taker me;
        enter(me);
        me.wait();
        return me.item;
    }
    std::optional<int> take_until(creel::time_point deadline) {
        taker me;
        enter(me);
        if (!me.wait_until(deadline))
            return std::nullopt;
        return me.item;
    }
    bool give(int item) {
        taker* to = nullptr;
        {
            const std::lock_guard hold{lock_};
            to = static_cast<taker*>(waiting_.take_front());
            if (to == nullptr)
                return false;
            to->item = item;
        }
        creel::wake(*to);
        return true;
    }
    std::size_t waiting() {
        const std::lock_guard hold{lock_};
        return waiting_.size();
    }
    std::size_t move_waiters(hand_over& to, std::size_t most) {
        const std::lock_guard hold{lock_};
        return waiting_.requeue(to.waiting_, most);
    }

private:
    struct taker : creel::list_waiter {
        taker() noexcept : list_waiter(creel::plain_wait) {}
        int item = -1;
    };
    void enter(taker& me) {
        const std::lock_guard hold{lock_};
        waiting_.push_back(me);
    }
    creel::wait_lock own_{"hand_over"};
    creel::wait_lock& lock_ = own_;
    creel::wait_list waiting_{lock_};
};

// The example of the header.
class gate_of_ours {
public:
    void pass() {
        creel::check_cancel();
        creel::list_waiter me{creel::plain_wait};
        {
            const std::lock_guard hold{lock_};
            if (open_)
                return;
            waiting_.push_back(me);
        }
        me.wait();
    }
    void open() {
        creel::wake_batch woken;
        const std::lock_guard hold{lock_};
        open_ = true;
        waiting_.take_all(woken);
    }

private:
    creel::wait_lock lock_{"gate"};
    bool open_ = false;
    creel::wait_list waiting_{lock_};
};

} // namespace

TEST_CASE("waiters of a wait_list are served first come first served") {
    std::string order;
    const auto left = run_virtually([&] {
        hand_over h;
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b', 'c'})
                n.spawn([&, c] { order += c + std::to_string(h.take()); });
            creel::this_fiber::yield();
            for (int i = 1; i <= 3; ++i)
                h.give(i);
        });
    });
    CHECK(order == "a1b2c3");
    CHECK(left == nothing);
}

TEST_CASE("wake_batch wakes all in order, after the lock is free") {
    int passed = 0;
    const auto left = run_virtually([&] {
        gate_of_ours g;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    g.pass();
                    ++passed;
                });
            creel::this_fiber::yield();
            g.open();
        });
        g.pass();
    });
    CHECK(passed == 3);
    CHECK(left == nothing);
}

TEST_CASE("a cancelled waiter leaves the list at once and takes nothing with it") {
    int got = 0;
    bool was_cancelled = false;
    const auto left = run_virtually([&] {
        hand_over h;
        creel::cancel_scope first;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { was_cancelled = !first.run([&] { h.take(); }); });
            n.spawn([&] { got = h.take(); });
            creel::this_fiber::yield();
            first.cancel();
            CHECK(h.waiting() == 1);
            h.give(7);
        });
    });
    CHECK(was_cancelled);
    CHECK(got == 7);
    CHECK(left == nothing);
}

TEST_CASE("a waiter that was handed an item before it is cancelled in the same instant keeps it") {
    std::optional<int> got;
    bool next_wait_threw = false;
    const auto left = run_virtually([&] {
        hand_over h;
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                next_wait_threw = !scope.run([&] {
                    got = h.take();
                    creel::this_fiber::yield();
                });
            });
            creel::this_fiber::yield();
            h.give(7);
            scope.cancel();
        });
    });
    CHECK(got == 7);
    CHECK(next_wait_threw);
    CHECK(left == nothing);
}

TEST_CASE("a wait with a timer of its own gives up its place when the timer is first") {
    std::optional<int> late = 1;
    std::optional<int> timely;
    const auto left = run_virtually([&](manual_poller& outside) {
        hand_over h;
        late = h.take_until(outside.now() + 1s);
        CHECK(h.waiting() == 0);
        outside.after(1s, [&] { h.give(5); });
        timely = h.take_until(outside.now() + 2s);
    });
    CHECK(!late);
    CHECK(timely == 5);
    CHECK(left == nothing);
}

TEST_CASE("requeued waiters keep their order behind those already there and are woken there") {
    std::string order;
    const auto left = run_virtually([&] {
        creel::wait_lock lock{"hand_over"};
        hand_over a{lock};
        hand_over b{lock};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { order += "x" + std::to_string(b.take()); });
            for (char c : {'p', 'q', 'r'})
                n.spawn([&, c] { order += c + std::to_string(a.take()); });
            creel::this_fiber::yield();
            CHECK(a.move_waiters(b, 2) == 2);
            CHECK(a.waiting() == 1);
            CHECK(b.waiting() == 3);
            a.give(9);
            for (int i = 1; i <= 3; ++i)
                b.give(i);
        });
    });
    CHECK(order == "r9x1p2q3");
    CHECK(left == nothing);
}

TEST_CASE("a requeue to a list of another lock is a bug that is named") {
    const std::string message = abort_of_run([] {
        hand_over a;
        hand_over b;
        a.move_waiters(b, 1);
    });
    CHECK_THAT(message, Catch::Contains("hand_over made at ") &&
                            Catch::Contains("requeued to a list of another lock"));
}

namespace {

// Waits until this many threads sleep for a lock.
void await_sleepers(std::uint32_t count) {
    while (creel::detail::all_lock_sleepers.count != count)
        std::this_thread::yield();
}

} // namespace

TEST_CASE("bug: a thread that waits for a lock sleeps, and the holder's unlock wakes it") {
    creel::wait_lock lock{"held"};
    int entered = 0; // guarded by lock
    lock.lock();
    const auto enter = [&] {
        const std::lock_guard hold{lock};
        ++entered;
    };
    std::thread first{enter};
    std::thread second{enter};
    await_sleepers(2);
    lock.unlock();
    first.join();
    second.join();
    CHECK(entered == 2);
    CHECK(creel::detail::all_lock_sleepers.count == 0);
}

namespace {

// Puts all threads of the test on one core, this one with a real-time priority: the others run only
// while it sleeps. False if that is not permitted.
class only_while_this_sleeps {
public:
    only_while_this_sleeps() noexcept {
        sched_getaffinity(0, sizeof all_, &all_);
        cpu_set_t first;
        CPU_ZERO(&first);
        for (std::size_t core = 0; CPU_COUNT(&first) == 0; ++core)
            if (CPU_ISSET(core, &all_))
                CPU_SET(core, &first);
        sched_setaffinity(0, sizeof first, &first); // threads started from here on inherit it
    }
    only_while_this_sleeps(const only_while_this_sleeps&) = delete;
    only_while_this_sleeps& operator=(const only_while_this_sleeps&) = delete;
    ~only_while_this_sleeps() {
        sched_param normal{};
        pthread_setschedparam(pthread_self(), SCHED_OTHER, &normal);
        sched_setaffinity(0, sizeof all_, &all_);
    }
    [[nodiscard]] static bool begin() noexcept {
        sched_param real_time{};
        real_time.sched_priority = 1;
        return pthread_setschedparam(pthread_self(), SCHED_FIFO, &real_time) == 0;
    }

private:
    cpu_set_t all_{};
};

} // namespace

TEST_CASE("bug: neither a taker nor those it lets through depend on a withdrawal that has begun") {
    // The waiter's thread wants the lock because its deadline has passed, and gets it only after
    // all other threads have gone on: the kernel has taken the processor from it.
    const bool in_real_time = GENERATE(false, true);
    CAPTURE(in_real_time);
    std::optional<only_while_this_sleeps> one_core;
    if (in_real_time)
        one_core.emplace();
    auto lock = std::make_unique<creel::wait_lock>("gate");
    auto waiting = std::make_unique<creel::wait_list>(*lock);
    bool was_woken = false;
    lock->lock();
    std::atomic<bool> is_linked{false};
    std::thread waiter{[&] {
        creel::list_waiter me{creel::plain_wait};
        waiting->push_back(me); // for this thread the lock is held
        is_linked = true;
        was_woken = me.wait_until(creel::clock::now());
    }};
    while (!is_linked)
        std::this_thread::yield();
    await_sleepers(1);
    if (in_real_time && !only_while_this_sleeps::begin())
        WARN("no real-time priority: this runs as the other case");
    creel::wait_node* const taken = waiting->take_front();
    const bool waits_for_nobody = taken != nullptr && waiting->empty();
    waiting.reset();
    lock->unlock();
    creel::wake(taken->who());
    lock.reset(); // waits for the withdrawal, which needs the lock
    one_core.reset();
    waiter.join();
    CHECK(waits_for_nobody);
    CHECK(was_woken);
}

TEST_CASE("bug: a real-time thread gets a lock whose holder it has taken the processor from") {
    only_while_this_sleeps one_core;
    creel::wait_lock lock{"held"};
    std::atomic<bool> holds{false};
    std::atomic<bool> may_unlock{false};
    std::thread holder{[&] {
        const std::lock_guard hold{lock};
        holds = true;
        while (!may_unlock)
            std::this_thread::yield();
    }};
    while (!holds)
        std::this_thread::yield();
    if (!only_while_this_sleeps::begin())
        WARN("no real-time priority: this proves nothing");
    may_unlock = true;
    lock.lock();
    lock.unlock();
    holder.join();
}

TEST_CASE("a requeued waiter that is cancelled leaves the list it was moved to") {
    bool was_cancelled = false;
    int got = 0;
    const auto left = run_virtually([&] {
        creel::wait_lock lock{"hand_over"};
        hand_over a{lock};
        hand_over b{lock};
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { was_cancelled = !scope.run([&] { a.take(); }); });
            n.spawn([&] { got = a.take(); });
            creel::this_fiber::yield();
            a.move_waiters(b, 10);
            scope.cancel();
            CHECK(b.waiting() == 1);
            b.give(3);
        });
    });
    CHECK(was_cancelled);
    CHECK(got == 3);
    CHECK(left == nothing);
}

TEST_CASE("one who waits on two lists is woken by one of them and passed by at the other") {
    run_virtually([] {
        creel::wait_lock lock{"pair"};
        creel::wait_list first{lock};
        creel::wait_list second{lock};
        creel::wait_claim claim;
        creel::list_waiter who{creel::plain_wait};
        creel::wait_node in_first{who, &claim};
        creel::wait_node in_second{who, &claim};
        creel::list_waiter other{creel::plain_wait};
        {
            const std::lock_guard hold{lock};
            first.push_back(in_first);
            second.push_back(in_second);
            second.push_back(other);
            const bool got_first = first.take_front() == &in_first;
            CHECK(got_first);
            const bool passed_by = second.take_front() == &other;
            CHECK(passed_by);
            CHECK(second.empty());
        }
        CHECK(claim.winner() == &in_first);
        creel::wake(who);
        who.wait();
        creel::wake(other);
        other.wait();
    });
}

TEST_CASE("a withdrawn waiter's kind is told, so that those behind it may go") {
    static bool let_next_go = false;
    static constexpr creel::wait_kind kind{
        true, [](creel::list_waiter&, creel::wait_list& from, creel::wake_batch& woken) noexcept {
            if (creel::wait_node* next = from.take_front())
                woken.add(*next);
            let_next_go = true;
        }};
    bool went = false;
    const auto left = run_virtually([&] {
        creel::wait_lock lock{"chain"};
        creel::wait_list waiting{lock};
        auto wait = [&] {
            creel::list_waiter me{kind};
            {
                const std::lock_guard hold{lock};
                waiting.push_back(me);
            }
            me.wait();
        };
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { scope.run([&] { wait(); }); });
            n.spawn([&] {
                wait();
                went = true;
            });
            creel::this_fiber::yield();
            scope.cancel();
        });
    });
    CHECK(let_next_go);
    CHECK(went);
    CHECK(left == nothing);
}

TEST_CASE("a primitive destroyed while somebody waits on it is named with where it was made") {
    const std::string message = abort_of_run([] {
        creel::with_nursery([&](creel::nursery& n) {
            auto h = std::make_unique<hand_over>();
            n.spawn([&] { h->take(); });
            creel::this_fiber::yield();
            h.reset();
        });
    });
    CHECK_THAT(message, Catch::Contains("hand_over made at "));
    CHECK_THAT(message, Catch::Contains("wait_list_test.cpp:"));
    CHECK_THAT(message, Catch::Contains("destroyed while somebody waits on it, task (#") &&
                            Catch::Contains("join() the nursery before it goes"));
}

TEST_CASE("the dump names the primitive a fiber waits on and where it was made") {
    run_virtually([] {
        hand_over h;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { h.take(); });
            creel::this_fiber::yield();
            const std::string text = creel::list_fibers();
            INFO(text);
            CHECK(text.find("waits for hand_over made at ") != std::string::npos);
            h.give(1);
        });
    });
}

TEST_CASE("stress: items go to fibers on two threads and to plain threads and none is lost",
          "[stress]") {
    hand_over h;
    std::atomic<bool> done{false};
    std::atomic<long> taken_sum{0};
    std::atomic<int> taken{0};
    crowd takers{"items", {.virtual_time = true}, [&](crowd_member& me) {
                     while (!done) {
                         const auto wait = std::chrono::microseconds{me.random() % 50};
                         if (const auto item = h.take_until(creel::now() + wait)) {
                             taken_sum += *item;
                             ++taken;
                         }
                     }
                 }};
    const time_limit limit{1s};
    int given = 0;
    long given_sum = 0;
    while (goes_on(given, 30'000, limit))
        if (h.give(given))
            given_sum += given++;
    done = true;
    takers.join();
    CHECK(given > 0);
    CHECK(taken == given);
    CHECK(taken_sum == given_sum);
}

TEST_CASE("stress: waiters requeued between lists while they time out are neither lost nor doubled",
          "[stress]") {
    creel::wait_lock lock{"hand_over"};
    hand_over a{lock};
    hand_over b{lock};
    std::atomic<bool> done{false};
    std::atomic<long> taken{0};
    const crowd_options options{.schedulers = 1, .plain_threads = 0, .virtual_time = true};
    crowd takers{"requeued waiters", options, [&](crowd_member&) {
                     while (!done)
                         taken += a.take_until(creel::now() + 1us).has_value();
                 }};
    const time_limit limit{1s};
    long given = 0;
    for (int i = 0; given < least_rounds || goes_on(i, 500'000, limit); ++i) {
        a.move_waiters(b, 2);
        given += b.give(1);
    }
    done = true;
    takers.join();
    CHECK(given > 0);
    CHECK(taken == given);
    CHECK(b.waiting() == 0);
}

namespace {

// One opening lets all waiters through, and then any of them may destroy the gate.
class brief_gate {
public:
    void pass() {
        creel::list_waiter me{creel::plain_wait};
        enter(me);
        me.wait();
    }
    bool pass_until(creel::time_point deadline) {
        creel::list_waiter me{creel::plain_wait};
        enter(me);
        return me.wait_until(deadline);
    }
    void open() {
        creel::wake_batch woken;
        const std::lock_guard hold{lock_};
        waiting_.take_all(woken);
    }
    int entered() {
        const std::lock_guard hold{lock_};
        return entered_;
    }

private:
    void enter(creel::list_waiter& who) {
        const std::lock_guard hold{lock_};
        waiting_.push_back(who);
        ++entered_;
    }
    creel::wait_lock lock_{"brief_gate"};
    int entered_ = 0;
    creel::wait_list waiting_{lock_};
};

// A gate for each round: one member waits with a deadline, a second destroys the gate as soon as it
// is let through, and a third opens the gate, sometimes at the instant of the deadline.
class gate_rounds {
public:
    void wait_with_deadline(crowd_member& me) {
        gates_.for_each([&](brief_gate& g) {
            through += g.pass_until(creel::now() + std::chrono::nanoseconds{me.random() % 20'000});
            ++are_back_;
        });
    }
    void end_when_through() {
        gates_.for_each([&](brief_gate& g) {
            g.pass();
            delete &g;
            ++are_ended_;
        });
    }
    void open_all(crowd_member& me) {
        while (me.goes_on(opened, 10'000)) {
            auto* const g = new brief_gate;
            gates_.pass_on(*g);
            while (g->entered() < 2)
                std::this_thread::yield();
            for (auto i = me.random() % 4'000; i > 0; --i)
                std::atomic_signal_fence(std::memory_order_seq_cst); // so that the loop stays
            g->open();
            ++opened;
            while (are_back_ < opened || are_ended_ < opened)
                std::this_thread::yield();
        }
        gates_.end();
    }

    int opened = 0;
    int through = 0; // of those with a deadline

private:
    relay<brief_gate> gates_;
    std::atomic<int> are_back_{0};
    std::atomic<int> are_ended_{0};
};

} // namespace

TEST_CASE("stress: bug: one who is let through ends the list while another's deadline looks for it",
          "[stress]") {
    // The first member has the deadline: a fiber, or a plain thread.
    const bool is_fiber = GENERATE(false, true);
    CAPTURE(is_fiber);
    gate_rounds rounds;
    const crowd_options options{.schedulers = is_fiber ? 1U : 0U,
                                .fibers_each = 1,
                                .plain_threads = is_fiber ? 2U : 3U,
                                .time = 500ms};
    crowd three{"brief gates", options, [&](crowd_member& me) {
                    if (me.number == 0)
                        rounds.wait_with_deadline(me);
                    else if (me.number == 1)
                        rounds.end_when_through();
                    else
                        rounds.open_all(me);
                }};
    three.join();
    CHECK(rounds.opened > 0);
    CHECK(rounds.through <= rounds.opened);
}
