// One suite for everything that locks exclusively, then what each has beyond that.
#include <creel/sync/mutex.hpp>
#include <creel/sync/recursive_mutex.hpp>
#include <creel/sync/shared_mutex.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <csignal>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::mutex;
using creel::sync::recursive_mutex;
using creel::sync::shared_mutex;

TEMPLATE_TEST_CASE("a free mutex is locked without waiting", "", mutex, recursive_mutex,
                   shared_mutex) {
    run_virtually([] {
        TestType m;
        CHECK(!m.statistics().locked);
        m.lock();
        CHECK(m.statistics().locked);
        CHECK(m.owned());
        m.unlock();
        CHECK(!m.owned());
        const bool locked = m.try_lock();
        CHECK(locked);
        m.unlock();
        m.lock_cancellable();
        m.unlock();
        CHECK(!m.statistics().locked);
        CHECK(m.statistics().contended == 0);
    });
}

TEMPLATE_TEST_CASE("the lock adaptors of std work with a mutex of ours", "", mutex, recursive_mutex,
                   shared_mutex) {
    run_virtually([] {
        TestType a;
        TestType b;
        {
            const std::lock_guard hold{a};
            CHECK(a.owned());
        }
        {
            const std::scoped_lock hold{a, b};
            CHECK(b.owned());
        }
        {
            std::unique_lock hold{a, std::try_to_lock};
            CHECK(hold.owns_lock());
            hold.unlock();
            hold.lock();
        }
        {
            a.lock_cancellable();
            const std::lock_guard hold{a, std::adopt_lock};
        }
        CHECK(!a.statistics().locked);
        CHECK(!b.statistics().locked);
    });
}

TEMPLATE_TEST_CASE("a mutex is handed over first come first served", "", mutex, recursive_mutex,
                   shared_mutex) {
    std::string order;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b', 'c'})
                n.spawn([&, c] {
                    const std::lock_guard hold{m};
                    order += c;
                    creel::this_fiber::yield();
                    order += c;
                });
            creel::this_fiber::yield();
            CHECK(m.statistics().waiting == 3);
            m.unlock();
        });
        CHECK(m.statistics().contended == 3);
    });
    CHECK(order == "aabbcc");
    CHECK(left == nothing);
}

// Trio's lock hand-over: between the release and the moment the next one runs the lock is already
// the next one's, so that neither the releaser nor a newcomer barges in.
TEMPLATE_TEST_CASE("who unlocks a mutex that is waited for cannot have it back before the waiter",
                   "", mutex, recursive_mutex, shared_mutex) {
    std::string order;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::lock_guard hold{m};
                order += "waiter ";
            });
            creel::this_fiber::yield();
            m.unlock();
            CHECK(m.statistics().locked);
            CHECK(!m.owned());
            const bool barged = m.try_lock();
            CHECK(!barged);
            const std::lock_guard hold{m};
            order += "unlocker";
        });
    });
    CHECK(order == "waiter unlocker");
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a cancelled fiber still locks and waits for a mutex", "", mutex,
                   recursive_mutex, shared_mutex) {
    bool held = false;
    bool left_by_cancel = false;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                left_by_cancel = !scope.run([&] {
                    const std::lock_guard hold{m};
                    held = true;
                    creel::this_fiber::yield();
                });
            });
            creel::this_fiber::yield();
            scope.cancel();
            creel::this_fiber::yield();
            CHECK(!held);
            m.unlock();
        });
        CHECK(!m.statistics().locked);
    });
    CHECK(held);
    CHECK(left_by_cancel);
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a cancelled lock_cancellable does not hold the mutex and the next one gets it",
                   "", mutex, recursive_mutex, shared_mutex) {
    bool first_held = false;
    bool second_held = false;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                scope.run([&] {
                    m.lock_cancellable();
                    first_held = true;
                });
            });
            n.spawn([&] {
                const std::lock_guard hold{m};
                second_held = true;
            });
            creel::this_fiber::yield();
            scope.cancel();
            CHECK(m.statistics().waiting == 1);
            m.unlock();
        });
        CHECK(!m.statistics().locked);
    });
    CHECK(!first_held);
    CHECK(second_held);
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a mutex handed to a waiter that is cancelled in the same instant is held by it",
                   "", mutex, recursive_mutex, shared_mutex) {
    bool held = false;
    bool next_wait_threw = false;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                next_wait_threw = !scope.run([&] {
                    m.lock_cancellable();
                    const std::lock_guard hold{m, std::adopt_lock};
                    held = m.owned();
                    creel::this_fiber::yield();
                });
            });
            creel::this_fiber::yield();
            m.unlock();
            scope.cancel();
        });
        CHECK(!m.statistics().locked);
    });
    CHECK(held);
    CHECK(next_wait_threw);
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("lock_cancellable is a cancellation point also when the mutex is free", "",
                   mutex, recursive_mutex, shared_mutex) {
    bool passed = true;
    run_virtually([&] {
        TestType m;
        creel::cancel_scope scope;
        scope.cancel();
        passed = scope.run([&] { m.lock_cancellable(); });
        CHECK(!m.statistics().locked);
    });
    CHECK(!passed);
}

TEMPLATE_TEST_CASE("a deadline that passes while a mutex is handed over loses against it", "",
                   mutex, recursive_mutex, shared_mutex) {
    bool held = false;
    const auto left = run_virtually([&](manual_poller& outside) {
        TestType m;
        m.lock();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                creel::move_on_after(1s, [&] {
                    m.lock_cancellable();
                    held = true;
                    m.unlock();
                });
            });
            creel::this_fiber::yield();
            outside.advance(1s); // the deadline has passed, and no poll has noticed
            m.unlock();
        });
    });
    CHECK(held);
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("unlocking a free mutex is caught and names the mutex", "", mutex,
                   recursive_mutex, shared_mutex) {
    const auto outcome = run_in_child([] {
        TestType m;
        m.unlock();
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("mutex made at ") != std::string::npos);
    CHECK(outcome.stderr_text.find("mutex_test.cpp:") != std::string::npos);
    CHECK(outcome.stderr_text.find("unlocked, but") != std::string::npos);
}

TEMPLATE_TEST_CASE("an unlock by a stranger is caught", "", mutex, recursive_mutex, shared_mutex) {
    const auto outcome = run_in_child([] {
        run_virtually([] {
            TestType m;
            m.lock();
            creel::with_nursery([&](creel::nursery& n) { n.spawn([&] { m.unlock(); }); });
        });
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("unlocked by one who does not hold it") != std::string::npos);
}

TEMPLATE_TEST_CASE("a mutex destroyed while it is locked is caught", "", mutex, recursive_mutex,
                   shared_mutex) {
    const auto outcome = run_in_child([] {
        TestType m;
        m.lock();
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("destroyed while it is locked") != std::string::npos);
}

TEMPLATE_TEST_CASE("locking twice is caught unless the mutex is recursive", "", mutex,
                   shared_mutex) {
    const auto outcome = run_in_child([] {
        TestType m;
        m.lock();
        m.lock();
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("locked again by") != std::string::npos);
}

TEMPLATE_TEST_CASE("stress: a mutex has one owner among fibers of two threads and plain threads",
                   "[stress]", mutex, recursive_mutex, shared_mutex) {
    const auto seed = printed_seed("mutex stress");
    const int rounds = under_tsan ? 500 : 3'000;
    TestType m;
    std::uint64_t inside = 0; // guarded by m; TSan and the sum would tell
    std::atomic<std::uint64_t> expected{0};
    auto work = [&](unsigned salt, bool may_yield) {
        std::minstd_rand random{seed + salt};
        for (int i = 0; i < rounds; ++i) {
            const auto choice = random() % 4;
            if (choice == 0) {
                creel::move_on_after(std::chrono::microseconds{random() % 20}, [&] {
                    m.lock_cancellable();
                    ++inside;
                    expected.fetch_add(1);
                    m.unlock();
                });
            } else if (choice == 1) {
                if (m.try_lock()) {
                    ++inside;
                    expected.fetch_add(1);
                    m.unlock();
                }
            } else {
                const std::lock_guard hold{m};
                const auto before = inside;
                if (may_yield && choice == 2)
                    creel::this_fiber::yield();
                inside = before + 1;
                expected.fetch_add(1);
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
                            n.spawn([&, i] { work(10 * t + i, true); });
                    });
                },
                {}, manual_poller::other_threads::yes);
        });
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&, t] { work(100 + t, false); });
    for (std::thread& t : threads)
        t.join();
    CHECK(inside == expected.load());
    CHECK(!m.statistics().locked);
    CHECK(m.statistics().waiting == 0);
}

TEMPLATE_TEST_CASE("stress: the next owner of a mutex may destroy it at once", "[stress]", mutex,
                   recursive_mutex, shared_mutex) {
    int rounds = 0;
    for (int i = 0; i < 1'000; ++i) {
        auto m = std::make_unique<TestType>();
        std::atomic<bool> locked{false};
        std::thread other{[&locked, shared = m.get()] {
            shared->lock();
            locked.store(true);
            shared->unlock();
        }};
        while (!locked.load())
            std::this_thread::yield();
        m->lock();
        m->unlock();
        m.reset();
        other.join();
        ++rounds;
    }
    CHECK(rounds == 1'000);
}

// ---- recursive_mutex ----------------------------------------------------------------------------

TEST_CASE("a recursive_mutex is free when it was unlocked as often as it was locked") {
    bool other_held = false;
    const auto left = run_virtually([&] {
        recursive_mutex m;
        m.lock();
        m.lock_cancellable();
        const bool third = m.try_lock();
        CHECK(third);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::lock_guard hold{m};
                other_held = true;
            });
            for (int i = 0; i < 3; ++i) {
                creel::this_fiber::yield();
                CHECK(!other_held);
                m.unlock();
            }
        });
    });
    CHECK(other_held);
    CHECK(left == nothing);
}

// ---- shared_mutex -------------------------------------------------------------------------------

TEST_CASE("readers of a shared_mutex are inside together and a writer waits for the last") {
    std::string order;
    const auto left = run_virtually([&] {
        shared_mutex m;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    const std::shared_lock hold{m};
                    order += "r";
                    creel::this_fiber::sleep_for(1s);
                    order += "r";
                });
            n.spawn([&] {
                const std::lock_guard hold{m};
                order += "w";
            });
            creel::this_fiber::yield();
            CHECK(m.statistics().readers == 2);
            CHECK(m.statistics().waiting == 1);
        });
    });
    CHECK(order == "rrrrw");
    CHECK(left == nothing);
}

TEST_CASE("a reader that comes while a writer waits queues up behind it") {
    std::string order;
    const auto left = run_virtually([&] {
        shared_mutex m;
        m.lock_shared();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::lock_guard hold{m};
                order += "w";
            });
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    const std::shared_lock hold{m};
                    order += "r";
                    creel::this_fiber::yield();
                    order += "r";
                });
            n.spawn([&] {
                const std::lock_guard hold{m};
                order += "W";
            });
            creel::this_fiber::yield();
            const bool barged = m.try_lock_shared();
            CHECK(!barged);
            m.unlock_shared();
        });
    });
    CHECK(order == "wrrrrW");
    CHECK(left == nothing);
}

TEST_CASE("a writer that is cancelled lets the readers behind it go") {
    bool read = false;
    const auto left = run_virtually([&] {
        shared_mutex m;
        m.lock_shared();
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { scope.run([&] { m.lock_cancellable(); }); });
            n.spawn([&] {
                m.lock_shared_cancellable();
                read = true;
                m.unlock_shared();
            });
            creel::this_fiber::yield();
            CHECK(!read);
            scope.cancel();
            creel::this_fiber::yield();
            CHECK(read);
            m.unlock_shared();
        });
    });
    CHECK(read);
    CHECK(left == nothing);
}

TEST_CASE("unlock_shared without a reader is caught") {
    const auto outcome = run_in_child([] {
        shared_mutex m;
        m.unlock_shared();
    });
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("nobody reads") != std::string::npos);
}

TEST_CASE("stress: readers of a shared_mutex never see half of what a writer writes", "[stress]") {
    const auto seed = printed_seed("mutex stress");
    const int rounds = under_tsan ? 500 : 3'000;
    shared_mutex m;
    long first = 0;
    long second = 0;
    std::atomic<int> torn{0};
    auto work = [&](unsigned salt) {
        std::minstd_rand random{seed + salt};
        for (int i = 0; i < rounds; ++i) {
            if (random() % 4 == 0) {
                creel::move_on_after(std::chrono::microseconds{random() % 20}, [&] {
                    m.lock_cancellable();
                    ++first;
                    ++second;
                    m.unlock();
                });
            } else {
                const std::shared_lock hold{m};
                torn.fetch_add(first == second ? 0 : 1);
            }
        }
    };
    std::vector<std::thread> threads;
    threads.emplace_back([&] {
        run_virtually(
            [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    for (unsigned i = 0; i < 4; ++i)
                        n.spawn([&, i] { work(i); });
                });
            },
            {}, manual_poller::other_threads::yes);
    });
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&, t] { work(100 + t); });
    for (std::thread& t : threads)
        t.join();
    CHECK(torn.load() == 0);
    CHECK(first == second);
    CHECK(m.statistics().readers == 0);
}

TEMPLATE_TEST_CASE(
    "the next task on a fiber is a stranger to a mutex that the last one left locked", "", mutex,
    recursive_mutex, shared_mutex) {
    const auto outcome = run_in_child([] {
        run_virtually([] {
            TestType m;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { m.lock(); });
                n.spawn([&] {
                    if (!m.owned())
                        m.unlock();
                });
            });
        });
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("unlocked by one who does not hold it") != std::string::npos);
}

TEMPLATE_TEST_CASE("a thread is a stranger to a mutex that one before it left locked", "", mutex,
                   recursive_mutex, shared_mutex) {
    const auto outcome = run_in_child([] {
        TestType m;
        std::thread{[&] { m.lock(); }}.join(); // whose memory the next one gets
        std::thread{[&] {
            if (!m.owned())
                m.unlock();
        }}.join();
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("unlocked by one who does not hold it") != std::string::npos);
}
