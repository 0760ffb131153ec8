// Each of Boost.Fiber's primitives between fibers of creel and of Boost, on one thread and across
// two threads, one with creel and one with Boost's stock algorithm.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/barrier.hpp>
#include <boost/fiber/buffered_channel.hpp>
#include <boost/fiber/condition_variable.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/future.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>
#include <boost/fiber/recursive_mutex.hpp>
#include <boost/fiber/recursive_timed_mutex.hpp>
#include <boost/fiber/timed_mutex.hpp>
#include <boost/fiber/unbuffered_channel.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <type_traits>

using namespace std::chrono_literals;
using namespace creel::test;
namespace bf = boost::fibers;

namespace {

constexpr int rounds = 100;
constexpr auto with_threads = manual_poller::other_threads::yes;

enum class sides { two_creel_fibers, creel_and_boost, creel_threads, creel_and_stock_thread };

// Runs both functions side by side, in the places that `where` names.
void run_both(sides where, test_body<> a, test_body<> b) {
    const auto in_nursery = [](test_body<> f) {
        creel::with_nursery([&](creel::nursery& n) { n.spawn([&] { f(); }); });
    };
    switch (where) {
    case sides::two_creel_fibers:
        CHECK(run_virtually([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn([&] { a(); });
                      n.spawn([&] { b(); });
                  });
              }) == nothing);
        break;
    case sides::creel_and_boost:
        CHECK(run_virtually([&] {
                  bf::fiber native{[&] { b(); }};
                  in_nursery(a);
                  native.join();
              }) == nothing);
        break;
    case sides::creel_threads:
    case sides::creel_and_stock_thread: {
        std::thread other{[&] {
            if (where == sides::creel_threads)
                run_virtually([&] { in_nursery(b); }, {}, with_threads);
            else
                bf::fiber{[&] { b(); }}.join();
        }};
        run_virtually([&] { in_nursery(a); }, {}, with_threads);
        other.join();
        break;
    }
    }
}

void on_all_sides(test_body<const sides> test) {
    for (const sides where : {sides::two_creel_fibers, sides::creel_and_boost, sides::creel_threads,
                              sides::creel_and_stock_thread}) {
        INFO("sides " << static_cast<int>(where));
        test(where);
    }
}

} // namespace

TEMPLATE_TEST_CASE("a Boost mutex excludes creel's fibers as it does Boost's", "", bf::mutex,
                   bf::timed_mutex, bf::recursive_mutex, bf::recursive_timed_mutex) {
    on_all_sides([](sides where) {
        TestType mutex;
        std::atomic<int> inside{0};
        std::atomic<int> met{0};
        int count = 0; // guarded by mutex
        const auto side = [&] {
            for (int i = 0; i < rounds; ++i) {
                const std::lock_guard lock{mutex};
                met += ++inside - 1;
                ++count;
                boost::this_fiber::yield();
                --inside;
            }
        };
        run_both(where, side, side);
        CHECK(count == 2 * rounds);
        CHECK(met == 0);
    });
}

TEMPLATE_TEST_CASE("the timed lock of a Boost mutex ends and leaves the mutex to its owner", "",
                   bf::timed_mutex, bf::recursive_timed_mutex) {
    on_all_sides([](sides where) {
        TestType mutex;
        bf::promise<void> locked;
        bf::promise<void> gave_up;
        bool got_it = true;
        run_both(
            where,
            [&] {
                mutex.lock();
                locked.set_value();
                gave_up.get_future().get();
                mutex.unlock();
            },
            [&] {
                locked.get_future().get();
                got_it = mutex.try_lock_for(1ms);
                gave_up.set_value();
                mutex.lock(); // and later it is to be had
                mutex.unlock();
            });
        CHECK(!got_it);
    });
}

TEST_CASE("a Boost condition variable wakes creel's fibers and ends their timed waits") {
    on_all_sides([](sides where) {
        bf::mutex mutex;
        bf::condition_variable changed;
        // Guarded by mutex. Atomic only for TSan, which does not see the order that Boost makes.
        std::atomic<int> turn{0};        // the owner
        std::atomic<int> timed_waits{0}; // that have ended
        const auto side = [&](int mine) {
            for (int i = 0; i < rounds; ++i) {
                std::unique_lock lock{mutex};
                changed.wait(lock, [&] { return turn == mine; });
                turn = 1 - mine;
                changed.notify_one();
            }
            std::unique_lock lock{mutex};
            timed_waits += changed.wait_for(lock, 1ms, [] { return false; }) ? 0 : 1;
        };
        run_both(
            where, [&] { side(0); }, [&] { side(1); });
        CHECK(timed_waits == 2);
    });
}

TEMPLATE_TEST_CASE("a Boost channel loses nothing between creel's fibers and Boost's", "",
                   bf::buffered_channel<int>, bf::unbuffered_channel<int>) {
    on_all_sides([](sides where) {
        std::unique_ptr<TestType> channel;
        if constexpr (std::is_constructible_v<TestType, std::size_t>)
            channel = std::make_unique<TestType>(std::size_t{4});
        else
            channel = std::make_unique<TestType>();
        long sum = 0;
        run_both(
            where,
            [&] {
                for (int i = 1; i <= rounds; ++i)
                    channel->push(i);
                channel->close();
            },
            [&] {
                for (const int v : *channel)
                    sum += v;
            });
        CHECK(sum == rounds * (rounds + 1) / 2);
    });
}

TEST_CASE("Boost's futures carry values and exceptions between creel's fibers and Boost's") {
    on_all_sides([](sides where) {
        bf::promise<int> value;
        bf::promise<int> failure;
        bf::packaged_task<int()> packaged{[] { return 3; }};
        auto of_package = packaged.get_future();
        int sum = 0;
        bool failed = false;
        run_both(
            where,
            [&] {
                sum += value.get_future().get();
                sum += of_package.get();
                try {
                    failure.get_future().get();
                } catch (const std::runtime_error&) {
                    failed = true;
                }
                sum += bf::async([] { return 5; }).get();
            },
            [&] {
                boost::this_fiber::yield();
                value.set_value(1);
                packaged();
                failure.set_exception(std::make_exception_ptr(std::runtime_error("no value")));
            });
        CHECK(sum == 9);
        CHECK(failed);
    });
}

TEST_CASE("a Boost barrier keeps creel's fibers and Boost's in step") {
    on_all_sides([](sides where) {
        bf::barrier barrier{2};
        std::atomic<int> steps[2] = {0, 0};
        std::atomic<int> out_of_step{0};
        const auto side = [&](int mine) {
            for (int i = 0; i < rounds; ++i) {
                ++steps[mine];
                barrier.wait();
                if (steps[1 - mine] < i + 1)
                    ++out_of_step;
                barrier.wait();
            }
        };
        run_both(
            where, [&] { side(0); }, [&] { side(1); });
        CHECK(steps[0] == rounds);
        CHECK(steps[1] == rounds);
        CHECK(out_of_step == 0);
    });
}

TEST_CASE("Boost's sleep and yield beside creel's keep everybody running") {
    on_all_sides([](sides where) {
        std::atomic<int> slept{0};
        run_both(
            where,
            [&] {
                for (int i = 0; i < 5; ++i) {
                    boost::this_fiber::sleep_for(1ms);
                    boost::this_fiber::sleep_until(std::chrono::steady_clock::now() + 1ms);
                    creel::this_fiber::yield();
                    ++slept;
                }
            },
            [&] {
                for (int i = 0; i < 5; ++i) {
                    boost::this_fiber::sleep_for(1ms);
                    boost::this_fiber::yield();
                    ++slept;
                }
            });
        CHECK(slept == 10);
    });
}

TEST_CASE("a fiber launched with dispatch runs at once, from a creel fiber and from a Boost one") {
    run_virtually([] {
        const auto dispatches = [] {
            bool ran = false;
            bf::fiber child{bf::launch::dispatch, [&] {
                                ran = true;
                                boost::this_fiber::yield();
                            }};
            const bool at_once = ran;
            child.join();
            return at_once;
        };
        bool from_creel = false;
        bool from_boost = false;
        creel::with_nursery(
            [&](creel::nursery& n) { n.spawn([&] { from_creel = dispatches(); }); });
        bf::fiber{[&] { from_boost = dispatches(); }}.join();
        CHECK(from_creel);
        CHECK(from_boost);
        CHECK(dispatches());
    });
}
