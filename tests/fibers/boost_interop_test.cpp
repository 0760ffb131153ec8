// Boost.Fiber's own fibers and primitives beside creel's, whose algorithm is a correct Boost one.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/buffered_channel.hpp>
#include <boost/fiber/condition_variable.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/future.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>

#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("Boost fibers run, yield and join inside a run") {
    std::string order;
    const auto left = run_virtually([&] {
        boost::fibers::fiber a{[&] {
            order += 'a';
            boost::this_fiber::yield();
            order += 'a';
        }};
        boost::fibers::fiber b{boost::fibers::launch::dispatch, [&] {
                                   order += 'b';
                                   boost::this_fiber::yield();
                                   order += 'b';
                               }};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                order += 'c';
                creel::this_fiber::yield();
                order += 'c';
            });
        });
        a.join();
        b.join();
    });
    CHECK(order.substr(0, 1) == "b"); // dispatch runs at once
    CHECK(order.size() == 6);
    CHECK(left == nothing);
}

TEST_CASE("a Boost fiber waits in creel calls and a creel fiber in Boost's") {
    std::string told;
    run_virtually([&] {
        gate g;
        boost::fibers::promise<std::string> promise;
        auto future = promise.get_future();
        boost::fibers::fiber native{[&] {
            g.pass();
            creel::this_fiber::sleep_for(1s);
            promise.set_value("through");
        }};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { told = future.get(); });
            n.spawn([&] { g.open(); });
        });
        native.join();
    });
    CHECK(told == "through");
}

TEST_CASE("a Boost sleeper beside a creel fiber that never stops yielding wakes up") {
    bool slept = false;
    run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([] {
                for (;;)
                    creel::this_fiber::yield();
            });
            n.spawn([&] {
                boost::this_fiber::sleep_for(1ms);
                slept = true;
                n.cancel();
            });
        });
    });
    CHECK(slept);
}

TEST_CASE("Boost fibers that yield for ever starve neither timers nor events") {
    bool came = false;
    run_virtually([&](manual_poller& outside) {
        bool stop = false;
        boost::fibers::fiber native{[&] {
            while (!stop) {
                outside.advance(1us);
                boost::this_fiber::yield();
            }
        }};
        creel::this_fiber::sleep_for(1ms);
        came = true;
        stop = true;
        native.join();
    });
    CHECK(came);
}

TEST_CASE("a Boost condition variable with a timeout works across creel threads") {
    boost::fibers::mutex m;
    boost::fibers::condition_variable changed;
    bool flag = false;
    bool timed_out = false;
    bool seen = false;
    std::thread waiting{[&] {
        run_virtually(
            [&] {
                std::unique_lock lock{m};
                timed_out = !changed.wait_for(lock, 1ms, [] { return false; });
                changed.wait(lock, [&] { return flag; });
                seen = true;
            },
            {}, manual_poller::other_threads::yes);
    }};
    run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    const std::lock_guard lock{m};
                    flag = true;
                    changed.notify_all();
                });
            });
        },
        {}, manual_poller::other_threads::yes);
    waiting.join();
    CHECK(timed_out);
    CHECK(seen);
}

// The poller's clock is ahead of Boost's, so that the deadline is out of its range.
TEST_CASE("a Boost wait until the end of time holds up no timer") {
    const auto left = run_virtually([](manual_poller& outside) {
        outside.advance(1'000'000h);
        const auto begin = outside.now();
        boost::fibers::mutex m;
        boost::fibers::condition_variable changed;
        bool came = false;
        boost::fibers::fiber waiting{[&] {
            std::unique_lock lock{m};
            came = changed.wait_until(lock, creel::time_point::max() - 1ns) ==
                   boost::fibers::cv_status::no_timeout;
        }};
        creel::this_fiber::sleep_for(1s);
        CHECK(outside.now() - begin == 1s);
        changed.notify_all();
        waiting.join();
        CHECK(came);
    });
    CHECK(left == nothing);
}

TEST_CASE("a Boost channel carries messages from a stock thread to a creel thread") {
    boost::fibers::buffered_channel<int> channel{16};
    long sum = 0;
    std::thread consumer{[&] {
        run_virtually(
            [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] {
                        for (int v : channel)
                            sum += v;
                    });
                });
            },
            {}, manual_poller::other_threads::yes);
    }};
    for (int i = 1; i <= 1000; ++i)
        channel.push(i);
    channel.close();
    consumer.join();
    CHECK(sum == 500'500);
}

TEST_CASE("a Boost fiber left parked at the end of a run goes on in a later one") {
    std::string order;
    boost::fibers::promise<void> promise;
    auto future = promise.get_future();
    boost::fibers::fiber native;
    run_virtually([&] {
        native = boost::fibers::fiber{[&] {
            order += "parked ";
            future.get();
            order += "resumed ";
        }};
        boost::this_fiber::yield();
    });
    order += "between ";
    run_virtually([&] {
        promise.set_value();
        native.join();
    });
    CHECK(order == "parked between resumed ");
}

TEST_CASE("runs follow each other on a thread that used Boost's fibers before and after") {
    std::string order;
    std::thread{[&] {
        boost::fibers::fiber{[&] { order += '1'; }}.join();
        run_virtually([&] { order += '2'; });
        boost::fibers::fiber{[&] { order += '3'; }}.join();
        run_virtually([&] { boost::fibers::fiber{[&] { order += '4'; }}.join(); });
    }}.join();
    CHECK(order == "1234");
}

TEST_CASE("a run awaits the creel calls that Boost fibers are inside") {
    std::string done;
    boost::fibers::fiber sleeper;
    boost::fibers::fiber parent;
    run_virtually([&](manual_poller& outside) {
        const auto begin = outside.now();
        sleeper = boost::fibers::fiber{[&, begin] {
            creel::this_fiber::sleep_for(5s);
            CHECK(creel::now() - begin == 5s);
            done += "slept ";
        }};
        parent = boost::fibers::fiber{[&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    creel::this_fiber::sleep_for(2s);
                    done += "child ";
                });
            });
            done += "nursery ";
        }};
        boost::this_fiber::yield();
    });
    CHECK(done == "child nursery slept ");
    sleeper.join();
    parent.join();
}

TEST_CASE("cancelling the outermost nursery reaches Boost fibers inside creel calls") {
    std::string outcome;
    run_virtually([&](manual_poller& outside) {
        const auto begin = outside.now();
        boost::fibers::fiber native;
        creel::with_nursery([&](creel::nursery& n) {
            native = boost::fibers::fiber{
                [&] { outcome = outcome_of([] { creel::this_fiber::sleep_for(100h); }); }};
            creel::this_fiber::sleep_for(1s);
            n.cancel("root");
        });
        native.join();
        CHECK(outside.now() - begin == 1s);
    });
    CHECK(outcome == "cancelled: root");
}

TEST_CASE("a Boost fiber outlives the nursery it waited under and goes on") {
    std::string done;
    run_virtually([&] {
        boost::fibers::fiber native;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([] { creel::this_fiber::sleep_for(1s); });
            native = boost::fibers::fiber{[&] {
                static_cast<void>(creel::move_on_after(1h, [&] {
                    creel::this_fiber::sleep_for(10s);
                    creel::this_fiber::yield();
                    done = "done";
                }));
            }};
            boost::this_fiber::yield();
        });
        native.join();
    });
    CHECK(done == "done");
}

TEST_CASE("the list of fibers has the children of a nursery that a Boost fiber opened") {
    std::string text;
    run_virtually([&] {
        boost::fibers::fiber native{[] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn({.name = "stuck child"}, [] { creel::this_fiber::sleep_for(1s); });
            });
        }};
        creel::this_fiber::sleep_for(1ms);
        text = creel::list_fibers();
        native.join();
    });
    CHECK_THAT(text, Catch::Contains(" waits for its child\n  stuck child (#") &&
                         Catch::Contains(" waits for a sleep\n"));
}
