// What io::run and other entry points stand on, with the manual poller in place of a ring.
#include "support/check.hpp"
#include "support/manual_poller.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/entry_point.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>

#include <chrono>
#include <source_location>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;

namespace {

// As the example in entry_point.hpp.
template <typename F>
creel::root_result<F> run_with_entry_point(F f, creel::entry_point& entry) {
    creel::root_main main{f};
    entry.on_living_thread([&] {
        creel::test::manual_poller outside;
        creel::run_scheduler(outside, {}, [&] { entry.run([&] { main.run(entry); }); });
    });
    return main.result();
}

} // namespace

TEST_CASE("an entry point gives the result of its function when all children have ended") {
    creel::entry_point entry{std::source_location::current()};
    int steps = 0;
    const auto f = [&](creel::nursery& root) {
        root.spawn([&] {
            creel::this_fiber::sleep_for(1h);
            ++steps;
        });
        return 42;
    };
    CHECK(run_with_entry_point(f, entry) == 42);
    CHECK(steps == 1);
}

TEST_CASE("an error of the root cancels a Boost fiber that is left, and is thrown after its end") {
    creel::entry_point entry{std::source_location::current()};
    std::vector<bool> covered; // is there a scope that a signal would cancel?
    entry.set_scope_listener(
        [&](creel::cancel_scope* everything) { covered.push_back(everything != nullptr); });
    bool native_was_cancelled = false;
    boost::fibers::fiber native;
    const auto f = [&](creel::nursery& root) {
        native = boost::fibers::fiber{[&] {
            try {
                // Until the root has ended the shield holds its cancel off.
                creel::shield([] { creel::this_fiber::sleep_for(50ms); });
                creel::this_fiber::sleep_for(1h);
            } catch (const creel::cancelled&) {
                native_was_cancelled = true;
            }
        }};
        creel::this_fiber::yield();
        root.spawn([] { throw std::runtime_error{"the root fails"}; });
    };
    CHECK_THROWS_AS(run_with_entry_point(f, entry), std::runtime_error);
    CHECK(native_was_cancelled);
    CHECK(covered == std::vector{true, false, true, false});
    native.join();
}
