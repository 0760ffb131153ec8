#include <creel/fibers/wait_list.hpp>

#include "support/child_process.hpp"
#include "support/clock_poller.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// A primitive of a user's own: items are handed to those who wait, first come first served.
class hand_over {
public:
    int take() {
        creel::check_cancel();
        taker me;
        {
            const std::lock_guard hold{lock_};
            waiting_.push_back(me);
        }
        me.wait();
        return me.item;
    }
    std::optional<int> take_until(creel::time_point deadline) {
        taker me;
        {
            const std::lock_guard hold{lock_};
            waiting_.push_back(me);
        }
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
        const std::scoped_lock hold{lock_, to.lock_};
        return waiting_.requeue(to.waiting_, most);
    }

    struct taker : creel::list_waiter {
        taker() noexcept : list_waiter(creel::plain_wait) {}
        int item = -1;
    };
    creel::wait_lock lock_{"hand_over"};
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
        hand_over a;
        hand_over b;
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

TEST_CASE("a requeued waiter that is cancelled leaves the list it was moved to") {
    bool was_cancelled = false;
    int got = 0;
    const auto left = run_virtually([&] {
        hand_over a;
        hand_over b;
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
    const auto outcome = run_in_child([] {
        run_virtually([] {
            creel::with_nursery([&](creel::nursery& n) {
                auto h = std::make_unique<hand_over>();
                n.spawn([&] { h->take(); });
                creel::this_fiber::yield();
                h.reset();
            });
        });
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("hand_over made at ") != std::string::npos);
    CHECK(outcome.stderr_text.find("wait_list_test.cpp:") != std::string::npos);
    CHECK(outcome.stderr_text.find("destroyed while somebody waits on it") != std::string::npos);
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
    const auto seed = printed_seed("wait_list stress");
    constexpr int items = 30'000;
    hand_over h;
    std::atomic<bool> done{false};
    std::atomic<long> taken_sum{0};
    std::atomic<int> taken{0};
    auto take_with_timeouts = [&](unsigned salt) {
        std::minstd_rand random{seed + salt};
        while (!done.load()) {
            const auto wait = std::chrono::microseconds{random() % 50};
            if (const auto item = h.take_until(creel::now() + wait)) {
                taken_sum.fetch_add(*item);
                taken.fetch_add(1);
            }
        }
    };
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&, t] {
            run_virtually(
                [&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        for (unsigned i = 0; i < 4; ++i)
                            n.spawn([&, i] { take_with_timeouts(10 * t + i); });
                    });
                },
                {}, manual_poller::other_threads::yes);
        });
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&, t] { take_with_timeouts(100 + t); });
    long given_sum = 0;
    for (int i = 0; i < items;) {
        if (h.give(i)) {
            given_sum += i;
            ++i;
        }
    }
    done.store(true);
    for (std::thread& t : threads)
        t.join();
    CHECK(taken.load() == items);
    CHECK(taken_sum.load() == given_sum);
}

TEST_CASE("stress: waiters requeued between lists while they time out are neither lost nor doubled",
          "[stress]") {
    hand_over a;
    hand_over b;
    std::atomic<bool> done{false};
    std::atomic<long> taken{0};
    std::thread fibers{[&] {
        run_virtually(
            [&](manual_poller& outside) {
                creel::with_nursery([&](creel::nursery& n) {
                    for (int i = 0; i < 4; ++i)
                        n.spawn([&] {
                            while (!done.load())
                                if (a.take_until(outside.now() + 1us))
                                    taken.fetch_add(1);
                        });
                });
            },
            {}, manual_poller::other_threads::yes);
    }};
    long given = 0;
    for (int i = 0; i < 50'000; ++i) {
        a.move_waiters(b, 2);
        given += b.give(1) ? 1 : 0;
    }
    done.store(true);
    fibers.join();
    CHECK(taken.load() == given);
    CHECK(b.waiting() == 0);
}

namespace {

// One opening lets everybody through, and any of them may end it then.
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

// Round for round a gate: one waits with a deadline, another ends the gate as soon as it is let
// through, and a third opens it, in the instant of the deadline if luck has it.
struct gate_rounds {
    static constexpr int most = creel::test::under_tsan ? 2'000 : 20'000;

    // Of the two who wait. The gate of that round.
    brief_gate& next(int round) {
        while (number.load() < round)
            std::this_thread::yield();
        return *gate.load();
    }
    void who_has_a_deadline() {
        std::minstd_rand random{seed};
        for (int round = 1; round <= most; ++round) {
            brief_gate& g = next(round);
            through +=
                g.pass_until(creel::now() + std::chrono::nanoseconds{random() % 20'000}) ? 1 : 0;
            is_back.store(round);
        }
    }
    void who_ends_it() {
        for (int round = 1; round <= most; ++round) {
            brief_gate& g = next(round);
            g.pass();
            delete &g;
            is_ended.store(round);
        }
    }
    void who_opens() {
        std::minstd_rand random{seed + 1};
        for (int round = 1; round <= most; ++round) {
            auto* const g = new brief_gate;
            gate.store(g);
            number.store(round);
            while (g->entered() < 2)
                std::this_thread::yield();
            for (auto i = random() % 4'000; i > 0; --i)
                __builtin_ia32_pause();
            g->open();
            while (is_back.load() < round || is_ended.load() < round)
                std::this_thread::yield();
        }
    }

    std::uint32_t seed;
    std::atomic<brief_gate*> gate{nullptr};
    std::atomic<int> number{0};
    std::atomic<int> is_back{0};
    std::atomic<int> is_ended{0};
    int through = 0; // of those with a deadline
};

} // namespace

TEST_CASE("stress: bug: one who is let through ends the list while another's deadline looks for it",
          "[stress]") {
    gate_rounds rounds{printed_seed("brief gates")};
    const auto waits_with_deadline = [&] { rounds.who_has_a_deadline(); };
    SECTION("plain threads") {
        std::thread waits{waits_with_deadline};
        std::thread ends{[&] { rounds.who_ends_it(); }};
        rounds.who_opens();
        waits.join();
        ends.join();
    }
    SECTION("a fiber and a plain thread") {
        std::thread waits{[&] {
            clock_poller outside;
            creel::run_scheduler(outside, {}, waits_with_deadline);
        }};
        std::thread ends{[&] { rounds.who_ends_it(); }};
        rounds.who_opens();
        waits.join();
        ends.join();
    }
    INFO(rounds.through << " of " << gate_rounds::most << " were let through before the deadline");
    CHECK(rounds.through <= gate_rounds::most);
}
