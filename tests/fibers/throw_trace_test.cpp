// Where an error was thrown, in debug mode.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/malloc_count.hpp"
#include "support/named_frames.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/entry_point.hpp>
#include <creel/fibers/error_origin.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

const creel::scheduler_options in_debug_mode{.debug = true};

[[gnu::noinline]] void throw_boom() {
    throw std::runtime_error("boom");
}

[[gnu::noinline]] void catch_and_throw_again() {
    try {
        throw_boom();
    } catch (const std::runtime_error&) {
        throw;
    }
}

// What leaves a run whose main fiber calls f.
std::exception_ptr error_of_run(const std::function<void()>& f,
                                const creel::scheduler_options& options = in_debug_mode) {
    try {
        run_virtually(f, options, manual_poller::other_threads::yes);
    } catch (...) {
        return std::current_exception();
    }
    return nullptr;
}

std::string missing_in_throw(const std::exception_ptr& error,
                             const std::vector<std::string>& functions) {
    const auto frames = creel::detail::throw_of(error);
    return frames.empty() ? "no frames" : found_in_order(places_of(frames), functions);
}

bool is_traced(const std::exception_ptr& error) {
    return !creel::detail::throw_of(error).empty();
}

void in_a_child(const std::function<void()>& f) {
    creel::with_nursery([&](creel::nursery& n) { n.spawn({.name = "thrower"}, f); });
}

} // namespace

TEST_CASE("in debug mode an error knows where it was thrown, through whatever it has passed") {
    const std::exception_ptr of_child = error_of_run([] { in_a_child(throw_boom); });
    CHECK(missing_in_throw(of_child, {"throw_boom", "run_task"}) == "");
    const std::exception_ptr of_body =
        error_of_run([] { creel::with_nursery([](creel::nursery&) { throw_boom(); }); });
    CHECK(missing_in_throw(of_body, {"throw_boom", "run_virtually"}) == "");
    const std::exception_ptr of_scope = error_of_run([] {
        in_a_child([] {
            creel::fail_after(1h, [] { creel::shield([] { in_a_child([] { throw_boom(); }); }); });
        });
    });
    CHECK(missing_in_throw(of_scope, {"throw_boom", "run_task"}) == "");
    const std::exception_ptr of_call =
        error_of_run([] { in_a_child([] { creel::blocking(throw_boom); }); });
    CHECK(missing_in_throw(of_call, {"throw_boom", "blocking_call::run"}) == "");
    const std::exception_ptr of_get = error_of_run([] {
        creel::with_nursery([](creel::nursery& n) {
            auto t = n.async(throw_boom);
            t.get();
        });
    });
    CHECK(missing_in_throw(of_get, {"throw_boom", "run_task"}) == "");
}

TEST_CASE("an error that is caught and thrown again on its way has the place of the rethrow") {
    const std::exception_ptr error = error_of_run([] { in_a_child(catch_and_throw_again); });
    CHECK(missing_in_throw(error, {"catch_and_throw_again"}) == "");
    if (has_debug_information())
        CHECK(missing_in_throw(error, {"throw_boom"}) != "");
}

TEST_CASE("the text of a throw has the program's functions, in a fiber and outside") {
    std::string inside;
    const std::exception_ptr error = error_of_run([&] {
        try {
            in_a_child(throw_boom);
        } catch (...) {
            inside = creel::error_backtrace(std::current_exception());
            throw;
        }
    });
    CHECK(inside == creel::error_backtrace(error));
    if (has_debug_information()) {
        CHECK_THAT(inside, Catch::Contains("    (anonymous namespace)::throw_boom() at "));
        CHECK_THAT(inside, Catch::Contains("throw_trace_test.cpp:"));
        CHECK_THAT(inside, !Catch::Contains("__cxa_throw") && !Catch::Contains("_throw(void"));
    }
    CHECK(creel::error_backtrace(nullptr).empty());
}

TEST_CASE("without debug mode, caught inside, or as `cancelled` a throw is not traced") {
    CHECK(!is_traced(error_of_run([] { in_a_child(throw_boom); }, {})));
    bool caught_is_traced = true;
    bool cancelled_is_traced = true;
    CHECK(error_of_run([&] {
              in_a_child([&] {
                  try {
                      throw_boom();
                  } catch (const std::runtime_error&) {
                      caught_is_traced = is_traced(std::current_exception());
                  }
              });
              creel::with_nursery([&](creel::nursery& n) {
                  n.cancel();
                  try {
                      creel::with_nursery([](creel::nursery&) { creel::this_fiber::yield(); });
                  } catch (...) {
                      cancelled_is_traced = is_traced(std::current_exception());
                      throw;
                  }
              });
          }) == nullptr);
    CHECK(!caught_is_traced);
    CHECK(!cancelled_is_traced);
}

TEST_CASE(
    "bug: the place of a throw was noted with allocations, under whatever lock the throw holds") {
    const auto made_before = std::make_exception_ptr(std::runtime_error("no memory"));
    const std::exception_ptr error = error_of_run([&] {
        creel::with_nursery([&](creel::nursery&) {
            const no_memory any; // it ends when the stack is unwound, after the place is noted
            std::rethrow_exception(made_before);
        });
    });
    CHECK(error == made_before);
    CHECK(is_traced(error));
}

TEST_CASE("threads that throw at the same time, also one error, note places of their own") {
    const auto shared = std::make_exception_ptr(std::runtime_error("shared"));
    std::vector<std::thread> threads;
    std::atomic<int> untraced{0};
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            const std::exception_ptr error = error_of_run([&] {
                for (int i = 0; i < 200; ++i) {
                    try {
                        in_a_child(throw_boom);
                    } catch (...) {
                        untraced += is_traced(std::current_exception()) ? 0 : 1;
                    }
                }
                in_a_child([&] { std::rethrow_exception(shared); });
            });
            if (error != shared)
                ++untraced;
        });
    for (std::thread& t : threads)
        t.join();
    CHECK(untraced == 0);
}

TEST_CASE("the throws of a bounded number of living errors are kept, and their memory comes back") {
    std::vector<std::exception_ptr> kept;
    const auto throw_often = [&](std::size_t times) {
        return [&kept, times] {
            for (std::size_t i = 0; i < times; ++i) {
                try {
                    creel::with_nursery([](creel::nursery&) { throw 7; }); // no destructor
                } catch (...) {
                    kept.push_back(std::current_exception());
                }
            }
        };
    };
    CHECK(error_of_run(throw_often(creel::detail::most_known_throws + 1)) == nullptr);
    CHECK(is_traced(kept.front()));
    CHECK(!is_traced(kept.back()));
    kept.clear();
    CHECK(error_of_run(throw_often(1)) == nullptr);
    CHECK(is_traced(kept.back()));
}

namespace {

// On a thread, because run_in_child() calls its body in a noexcept function. Nothing catches what
// the run throws.
child_result uncaught_in_child(const std::function<void()>& body, bool debug) {
    return run_in_child([&] {
        std::thread{[&] {
            creel::root_main main{body};
            creel::entry_point entry{std::source_location::current()};
            manual_poller outside;
            creel::run_scheduler(outside, {.debug = debug},
                                 [&] { entry.run([&] { main.run(entry); }); });
        }}.join();
    });
}

} // namespace

TEST_CASE("an uncaught error is named with the place of its throw, and so is each of a group") {
    const auto fails_twice = [] {
        creel::with_nursery({.on_error = creel::collect()}, [](creel::nursery& n) {
            n.spawn({.name = "first"}, throw_boom);
            n.spawn({.name = "second"}, catch_and_throw_again);
        });
    };
    const child_result one = uncaught_in_child([] { in_a_child(throw_boom); }, true);
    INFO(to_string(one));
    CHECK_THAT(one.stderr_text, Catch::Contains("creel: uncaught std::runtime_error: boom; it came "
                                                "from thrower (#"));
    CHECK_THAT(one.stderr_text, Catch::Contains("\ncreel:   thrown at\ncreel:     "));
    const child_result two = uncaught_in_child(fails_twice, true);
    INFO(to_string(two));
    if (has_debug_information()) {
        CHECK_THAT(one.stderr_text, Catch::Contains("throw_boom() at "));
        CHECK_THAT(two.stderr_text, Catch::Contains("creel:       (anonymous namespace)::"
                                                    "throw_boom() at "));
        CHECK_THAT(two.stderr_text, Catch::Contains("catch_and_throw_again() at "));
    }
    CHECK_THAT(uncaught_in_child(fails_twice, false).stderr_text, !Catch::Contains("thrown at"));
}

TEST_CASE("report() without a handler tells where a child's error was thrown") {
    const auto child = run_in_child([] {
        run_virtually(
            [] {
                creel::with_nursery({.on_error = creel::report()}, [](creel::nursery& n) {
                    n.spawn({.name = "thrower"}, throw_boom);
                });
            },
            in_debug_mode, manual_poller::other_threads::yes);
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK_THAT(child.stderr_text, Catch::Contains("failed: boom\ncreel:   thrown at\ncreel:     "));
}
