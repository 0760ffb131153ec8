// A lock is not handed over at once to a waiter of another thread: other callers may have it until
// that thread has woken, for a millisecond at most. The other thread here sleeps when it is told
// to, so that nothing depends on which thread is faster, and each thread has a clock of its own to
// set.
#include <creel/sync/mutex.hpp>
#include <creel/sync/recursive_mutex.hpp>
#include <creel/sync/semaphore.hpp>
#include <creel/sync/shared_mutex.hpp>

#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/process_end.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::mutex;
using creel::sync::recursive_mutex;
using creel::sync::semaphore;
using creel::sync::shared_mutex;

namespace {

class binary_semaphore {
public:
    void lock() { lock_cancellable(); }
    void lock_cancellable() { one_.acquire(); }
    bool try_lock() { return one_.try_acquire(); }
    void unlock() { one_.release(); }
    [[nodiscard]] auto statistics() const { return one_.statistics(); }

private:
    semaphore one_{1};
};

class shared_for_readers {
public:
    void lock() { m_.lock(); }
    void lock_cancellable() { m_.lock_shared_cancellable(); }
    bool try_lock() { return m_.try_lock(); }
    void unlock() { m_.unlock(); }
    void unlock_shared() { m_.unlock_shared(); }
    [[nodiscard]] auto statistics() const { return m_.statistics(); }

private:
    shared_mutex m_;
};

// A thread with a scheduler; its fibers run only while it is told so.
class other_thread {
public:
    explicit other_thread(test_body<creel::nursery> f) : function_(std::move(f)) {
        REQUIRE(becomes_true([&] { return sleeps_.load(); }));
    }
    other_thread(const other_thread&) = delete;
    other_thread& operator=(const other_thread&) = delete;
    ~other_thread() {
        ends_ = true;
        wake();
        thread_.join();
    }

    // Its fibers run until none of them can, or until `holds`.
    void runs_until(const std::function<bool()>& holds) {
        wake();
        CHECK(becomes_true(holds));
        asked_to_sleep_ = true;
        CHECK(becomes_true([&] { return sleeps_.load(); }));
    }

private:
    void wake() {
        asked_to_sleep_ = false;
        sleeps_ = false;
        sleeps_.notify_one();
    }
    void run() {
        run_virtually([&] {
            creel::with_nursery([&](creel::nursery& n) {
                function_(n);
                for (int i = 0; i < 8; ++i)
                    creel::this_fiber::yield();
                while (!ends_) {
                    if (asked_to_sleep_) {
                        sleeps_ = true;
                        sleeps_.wait(true); // the thread, with all its fibers
                    }
                    creel::this_fiber::yield();
                }
            });
        });
    }

    test_body<creel::nursery> function_;
    std::atomic<bool> sleeps_{false};
    std::atomic<bool> asked_to_sleep_{true};
    std::atomic<bool> ends_{false};
    std::thread thread_{[this] { run(); }};
};

// For another thread: a fiber that waits for the lock, and says so once it has had it.
template <class Mutex>
auto locks_once(Mutex& m, std::atomic<bool>& had_it) {
    return [&](creel::nursery& n) {
        n.spawn([&] {
            m.lock();
            had_it = true;
            m.unlock();
        });
    };
}

} // namespace

TEMPLATE_TEST_CASE(
    "a lock that a waiter of another thread waits for can be had until that thread wakes", "",
    mutex, recursive_mutex, shared_mutex, binary_semaphore) {
    run_virtually([] {
        TestType m;
        m.lock();
        std::atomic<bool> had_it{false};
        other_thread other{locks_once(m, had_it)};
        CHECK(m.statistics().waiting == 1);
        m.unlock();
        for (int i = 0; i < 3; ++i) {
            const bool barged = m.try_lock();
            CHECK(barged);
            m.unlock();
        }
        m.lock();
        m.unlock();
        CHECK(!had_it);
        other.runs_until([&] { return had_it.load(); });
    });
}

TEMPLATE_TEST_CASE("a waiter whose turn has waited for a millisecond gets the next unlock", "",
                   mutex, recursive_mutex, shared_mutex, binary_semaphore) {
    const auto waited = GENERATE(creel::duration{1ms} - 1ns, creel::duration{1ms});
    CAPTURE(waited);
    run_virtually([&](manual_poller& outside) {
        TestType m;
        m.lock();
        std::atomic<bool> had_it{false};
        other_thread other{locks_once(m, had_it)};
        const auto is_in_line = [&] { return m.statistics().waiting == 1; };
        m.unlock();
        m.lock();
        other.runs_until(is_in_line); // it has tried, and stands at the head of the line again
        CHECK(!had_it);

        outside.advance(waited);
        m.unlock();
        const bool barged = m.try_lock();
        CHECK(barged == (waited < 1ms));
        if (barged)
            m.unlock();
        other.runs_until([&] { return had_it.load(); });
    });
}

TEMPLATE_TEST_CASE("fibers of one thread are served first come first served, also when others wait",
                   "", mutex, recursive_mutex, shared_mutex, binary_semaphore) {
    std::string order;
    run_virtually([&] {
        TestType m;
        m.lock();
        std::atomic<bool> had_it{false};
        other_thread other{locks_once(m, had_it)};
        creel::with_nursery([&](creel::nursery& n) {
            for (const char c : {'a', 'b', 'c'})
                n.spawn([&, c] {
                    m.lock();
                    order += c;
                    creel::this_fiber::yield();
                    m.unlock();
                });
            creel::this_fiber::yield();
            CHECK(m.statistics().waiting == 4);
            m.unlock(); // calls the waiter of the other thread
            m.lock();
            order += 'm';
            m.unlock();
        });
        CHECK(!had_it);
        other.runs_until([&] { return had_it.load(); });
    });
    CHECK_THAT(order, Catch::Equals("mabc") || Catch::Equals("abcm"));
}

TEMPLATE_TEST_CASE("a cancel that comes when a waiter was called loses nothing", "", mutex,
                   recursive_mutex, shared_mutex, shared_for_readers, binary_semaphore) {
    const bool is_free = GENERATE(false, true);
    CAPTURE(is_free);
    run_virtually([&] {
        TestType m;
        m.lock();
        std::atomic<bool> has_ended{false};
        bool was_cancelled = false;
        std::optional<creel::cancel_token> token;
        other_thread other{[&](creel::nursery& n) {
            n.spawn([&] {
                creel::cancel_scope scope;
                token = scope.token();
                was_cancelled = !scope.run([&] {
                    m.lock_cancellable();
                    if constexpr (std::is_same_v<TestType, shared_for_readers>)
                        m.unlock_shared();
                    else
                        m.unlock();
                });
                has_ended = true;
            });
        }};
        m.unlock(); // it is called
        if (!is_free)
            m.lock();
        token.value().cancel();
        other.runs_until([&] { return has_ended.load(); });
        CHECK(was_cancelled == !is_free);
        if (!is_free)
            m.unlock();
        const bool is_free_again = m.try_lock();
        CHECK(is_free_again);
        m.unlock();
        CHECK(m.statistics().waiting == 0);
    });
}

TEST_CASE("a request for many permits is passed by no longer than until it has tried once") {
    run_virtually([] {
        semaphore s{3};
        s.acquire(3);
        std::atomic<bool> had_them{false};
        other_thread other{[&](creel::nursery& n) {
            n.spawn([&] {
                s.acquire(3);
                had_them = true;
                s.release(3);
            });
        }};
        s.release(3);
        const bool barged = s.try_acquire(1);
        CHECK(barged);
        other.runs_until([&] { return s.statistics().waiting == 1; });
        const bool barged_again = s.try_acquire(1);
        CHECK(!barged_again);
        CHECK(s.statistics().available == 2);
        s.release(1);
        other.runs_until([&] { return had_them.load(); });
    });
}

TEST_CASE("each of several waiters of another thread is called for whom permits are free") {
    run_virtually([] {
        semaphore s{3};
        s.acquire(3);
        std::atomic<int> have_one{0};
        other_thread other{[&](creel::nursery& n) {
            for (int i = 0; i < 4; ++i)
                n.spawn([&] {
                    const auto permit = s.hold();
                    ++have_one;
                    while (have_one < 3)
                        creel::this_fiber::yield();
                });
        }};
        s.release(3);
        CHECK(s.statistics().waiting == 1);
        other.runs_until([&] { return have_one == 4; });
        CHECK(s.statistics().available == 3);
    });
}

TEST_CASE("readers of another thread are called together, and a writer when they have left") {
    run_virtually([] {
        shared_mutex m;
        m.lock();
        std::atomic<int> read{0};
        std::atomic<bool> wrote{false};
        other_thread other{[&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    m.lock_shared();
                    ++read;
                    while (read < 2)
                        creel::this_fiber::yield();
                    m.unlock_shared();
                });
            n.spawn([&] {
                m.lock();
                wrote = true;
                m.unlock();
            });
        }};
        CHECK(m.statistics().waiting == 3);
        m.unlock();
        CHECK(m.statistics().waiting == 1);
        const bool barged = m.try_lock_shared(); // it passes the writer behind them, too
        CHECK(barged);
        other.runs_until([&] { return read == 2; });
        CHECK(!wrote);
        m.unlock_shared();
        other.runs_until([&] { return wrote.load(); });
    });
}

TEMPLATE_TEST_CASE("bug: a primitive destroyed while a waiter was called is named", "", mutex,
                   shared_mutex, semaphore) {
    const std::string message = abort_of_run([] {
        auto m = std::make_unique<
            std::conditional_t<std::is_same_v<TestType, semaphore>, binary_semaphore, TestType>>();
        m->lock();
        other_thread other{[&](creel::nursery& n) { n.spawn([&] { m->lock(); }); }};
        m->unlock();
        m.reset();
    });
    CHECK_THAT(message, Catch::Contains("destroyed while somebody waits on it"));
}
