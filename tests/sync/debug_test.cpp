// Debug mode names the waits of sync/ that wait for themselves.
#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/manual_poller.hpp"

#include <creel/fibers/all.hpp>
#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/once.hpp>
#include <creel/sync/shared_mutex.hpp>
#include <creel/sync/single_flight.hpp>

#include <chrono>
#include <cstddef>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

// The output of a run on stderr.
std::string told(test_body<manual_poller> f, bool debug = true) {
    const auto child = run_in_child(
        [&] { run_virtually(f, {.debug = debug}, manual_poller::other_threads::yes); });
    return child.exited && child.exit_code == 0 ? child.stderr_text : to_string(child);
}

std::size_t lines(const std::string& text) {
    std::size_t count = 0;
    for (const char c : text)
        count += c == '\n' ? 1 : 0;
    return count;
}

// For one minute: f must not wait forever.
template <typename F>
void for_a_while(F f) {
    static_cast<void>(creel::move_on_after(1min, f));
}

// Calls f in a grandchild of the caller, while the child between does something else.
template <typename F>
void in_grandchild(F f) {
    creel::with_nursery([&](creel::nursery& n) {
        n.spawn([&] {
            creel::with_nursery([&](creel::nursery& inner) {
                inner.spawn({.name = "asker"}, f);
                creel::this_fiber::sleep_for(1s);
            });
        });
        creel::this_fiber::sleep_for(1s);
    });
}

} // namespace

TEST_CASE("a single_flight and a once asked by a child of their own computation are named") {
    const auto ask = [] {
        single_flight<int, int> flights;
        for_a_while([&] {
            flights.run(1, [&] {
                in_grandchild([&] { flights.run(1, [] { return 2; }); });
                return 1;
            });
        });
        once only;
        for_a_while([&] { only.call([&] { in_grandchild([&] { only.call([] {}); }); }); });
    };
    const std::string text = told(ask);
    INFO(text);
    CHECK(lines(text) == 2);
    CHECK_THAT(text, Catch::StartsWith("creel: debug: asker (#"));
    CHECK_THAT(text, Catch::Contains("waits for single_flight made at "));
    CHECK_THAT(text, Catch::Contains("waits for once made at "));
    CHECK_THAT(text, Catch::Contains("and so for main (#"));
    CHECK(told(ask, false).empty());
}

TEST_CASE("a lock that is held above a child is named once its holder waits for the child") {
    const std::string text = told([] {
        mutex exclusive;
        shared_mutex shared;
        for_a_while([&] {
            exclusive.lock();
            shared.lock();
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { exclusive.lock_cancellable(); });
                n.spawn([&] { shared.lock_shared_cancellable(); });
            });
        });
        exclusive.unlock();
        shared.unlock();
    });
    INFO(text);
    CHECK(lines(text) == 2);
    CHECK_THAT(text, Catch::Contains("waits for mutex made at "));
    CHECK_THAT(text, Catch::Contains("waits for shared_mutex made at "));
}

TEST_CASE("a once or a lock that its holder waits for by a blocking call is named") {
    const auto ask = [](manual_poller&) {
        once only;
        mutex held;
        // The clock does not move until a fiber waits.
        const auto until_waited_for = [](const auto& primitive, auto f) {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    expect(becomes_true([&] { return primitive.statistics().waiting == 1; }));
                });
                for_a_while(f);
            });
        };
        until_waited_for(only, [&] {
            only.call([&] { creel::blocking({.name = "again"}, [&] { only.call([] {}); }); });
        });
        held.lock();
        until_waited_for(held, [&] { creel::blocking([&] { held.lock_cancellable(); }); });
        held.unlock();
    };
    const std::string text = told(ask);
    INFO(text);
    CHECK(lines(text) == 2);
    CHECK_THAT(text, Catch::StartsWith("creel: debug: the blocking call \"again\" at "));
    CHECK_THAT(text, Catch::Contains("waits for once made at "));
    CHECK_THAT(text, Catch::Contains("waits for mutex made at "));
    CHECK_THAT(text, Catch::Contains("and so for its caller, which waits for the call"));
    CHECK(told(ask, false).empty());
}

TEST_CASE("a wait for a fiber above that does not wait for the caller is not named") {
    const std::string text = told([] {
        single_flight<int, int> flights;
        once only;
        mutex lock;
        creel::with_nursery([&](creel::nursery& n) { // opened before any of these
            n.spawn([&] { flights.run(1, [] { return 2; }); });
            n.spawn([&] { only.call([] {}); });
            n.spawn([&] {
                lock.lock();
                lock.unlock();
            });
            lock.lock();
            only.call([&] {
                flights.run(1, [] {
                    // A nursery between, which belongs to no fiber above the callers.
                    creel::all([] { creel::this_fiber::sleep_for(1s); });
                    return 1;
                });
            });
            lock.unlock();
        });
    });
    CHECK(text.empty());
}
