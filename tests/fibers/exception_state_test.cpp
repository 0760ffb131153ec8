// The C++ exception state of a fiber, which stays with the fiber through every switch. Boost 1.81
// keeps no such state per context: without creel's swap, two fibers that park inside `catch`
// rethrow each other's exceptions, and uncaught_exceptions() leaks across. Boost 1.88 and later
// keep it, and a swap by creel beside Boost's loses exceptions; tests/boost_exceptions/ runs these
// tests on such a Boost.
#include "support/at_exit.hpp"
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>

#include <chrono>
#include <exception>
#include <mutex>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// Throws its name, waits inside the handler, and returns the name that `throw;` rethrows
// afterwards.
std::string rethrown_after(const std::string& name, test_body<> wait) {
    try {
        try {
            throw name;
        } catch (...) {
            wait();
            throw;
        }
    } catch (const std::string& caught) {
        return caught;
    }
}

} // namespace

TEST_CASE("fibers parked inside catch rethrow their own exception, and uncaught_exceptions() is "
          "right in a third") {
    std::string a;
    std::string b;
    int seen_by_third = -1;
    int seen_while_unwinding = -1;
    run_virtually([&] {
        auto sleep = [] { creel::this_fiber::sleep_for(1s); };
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { a = rethrown_after("a", sleep); });
            n.spawn([&] { b = rethrown_after("b", sleep); });
            n.spawn([&] {
                auto wait = [&] {
                    sleep();
                    seen_while_unwinding = std::uncaught_exceptions();
                };
                try {
                    const at_exit unwinding{wait};
                    throw 1;
                } catch (int) {
                }
            });
            n.spawn([&] {
                creel::this_fiber::yield();
                seen_by_third = std::uncaught_exceptions();
            });
        });
    });
    CHECK(a == "a");
    CHECK(b == "b");
    CHECK(seen_by_third == 0);
    CHECK(seen_while_unwinding == 1);
    CHECK(std::uncaught_exceptions() == 0);
}

TEST_CASE("fibers parked inside catch through boost::fibers::mutex rethrow their own exception") {
    std::string a;
    std::string b;
    run_virtually([&] {
        boost::fibers::mutex m;
        m.lock();
        auto lock = [&] { const std::lock_guard held{m}; };
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { a = rethrown_after("a", lock); });
            n.spawn([&] { b = rethrown_after("b", lock); });
            creel::this_fiber::yield();
            creel::this_fiber::yield();
            m.unlock();
        });
    });
    CHECK(a == "a");
    CHECK(b == "b");
}

TEST_CASE("a Boost fiber launched by dispatch keeps its exceptions from its launcher's") {
    std::string parent;
    std::string child;
    bool child_handles_none = false;
    run_virtually([&] {
        parent = rethrown_after("parent", [&] {
            boost::fibers::fiber f{boost::fibers::launch::dispatch, [&] {
                                       child_handles_none = std::current_exception() == nullptr;
                                       child = rethrown_after("child",
                                                              [] { boost::this_fiber::yield(); });
                                   }};
            f.join();
        });
    });
    CHECK(parent == "parent");
    CHECK(child == "child");
    CHECK(child_handles_none);
}

namespace {

// Waits while it handles one exception and unwinds by another. Meanwhile a new fiber starts.
// Returns the exceptions that the new fiber sees as it begins.
std::string seen_by_what_starts_in(test_body<test_body<>> wait_while_starting) {
    std::string seen = "nothing ran";
    auto note = [&] {
        seen = std::current_exception() != nullptr ? "caught" : "";
        seen += std::uncaught_exceptions() != 0 ? " on its way" : "";
    };
    test_body<> look{note};
    try {
        const at_exit unwinding{[&] {
            try {
                throw 2;
            } catch (int) {
                wait_while_starting(look);
            }
        }};
        throw 1;
    } catch (int) {
    }
    return seen;
}

} // namespace

TEST_CASE("what starts while others handle exceptions has none itself") {
    std::string task_in_wait;
    std::string task_in_boost_wait;
    std::string native_in_wait;
    std::string native_in_boost_wait;
    auto run = [&] {
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                task_in_wait = seen_by_what_starts_in([&](test_body<> look) {
                    n.spawn(look);
                    creel::this_fiber::sleep_for(1s);
                });
                task_in_boost_wait = seen_by_what_starts_in([&](test_body<> look) {
                    n.spawn({.stack_bytes = 1024 * 1024}, look); // no idle fiber has that
                    boost::this_fiber::yield();
                });
                if (under_tsan) // which does not stand how natives end, see random_calls.cpp
                    return;
                native_in_wait = seen_by_what_starts_in([&](test_body<> look) {
                    boost::fibers::fiber f{look};
                    creel::this_fiber::sleep_for(1s);
                    f.join();
                });
                native_in_boost_wait = seen_by_what_starts_in(
                    [&](test_body<> look) { boost::fibers::fiber{look}.join(); });
            });
        });
    };
    // Boost's dispatcher is started by the run's own function.
    const std::string outside = rethrown_after("outside", [&] { run_virtually(run); });
    CHECK(outside == "outside");
    CHECK(task_in_wait.empty());
    CHECK(task_in_boost_wait.empty());
    CHECK(native_in_wait.empty());
    CHECK(native_in_boost_wait.empty());
    CHECK(std::uncaught_exceptions() == 0);
}
