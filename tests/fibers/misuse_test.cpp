// What debug mode reports, each with code that looks like the mistake and is right.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/named_frames.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/stack_use.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// What a run in debug mode writes to stderr; it must end by itself.
std::string told_in_debug_mode(const std::function<void()>& f, bool debug = true) {
    const child_result child = run_in_child(
        [&] { run_virtually(f, {.debug = debug}, manual_poller::other_threads::yes); });
    return child.exited && child.exit_code == 0 ? child.stderr_text : to_string(child);
}

[[gnu::noinline]] void wait_in_a_function() {
    creel::this_fiber::sleep_for(1h);
    asm volatile(""); // the call above is not the last thing: it has a frame
}

void sleep_long() {
    creel::this_fiber::sleep_for(1h);
}

// Cancels a nursery in which f runs as a child named "child", and has begun to wait.
void cancel_around(const std::function<void()>& f) {
    creel::with_nursery([&](creel::nursery& n) {
        n.spawn({.name = "child"}, f);
        creel::this_fiber::yield();
        n.cancel("enough");
    });
}

} // namespace

TEST_CASE("debug mode names a task that returns although a wait has thrown `cancelled`") {
    const auto swallows = [] {
        cancel_around([] {
            try {
                sleep_long();
            } catch (...) {
            }
        });
    };
    const std::string text = told_in_debug_mode(swallows);
    CHECK_THAT(text, Catch::StartsWith("creel: debug: child (#"));
    CHECK_THAT(text, Catch::Contains("caught `cancelled` (enough) and returned normally"));
    CHECK(told_in_debug_mode(swallows, false).empty());
}

TEST_CASE("what lets `cancelled` pass, or ends before a wait throws it, is not named") {
    CHECK(told_in_debug_mode([] {
              cancel_around([] { // rethrown after a cleanup, and a next task on the same stack
                  try {
                      sleep_long();
                  } catch (...) {
                      creel::shield([] { creel::this_fiber::sleep_for(1s); });
                      throw;
                  }
              });
              creel::with_nursery([](creel::nursery& n) { n.spawn([] {}); });
              cancel_around([] { // it had no wait left to throw
                  creel::shield([] { creel::this_fiber::sleep_for(1s); });
              });
              cancel_around([] { // a scope of its own has absorbed another cancel
                  static_cast<void>(creel::move_on_after(0s, sleep_long));
              });
              try {
                  cancel_around([] { // an error replaces it
                      try {
                          sleep_long();
                      } catch (...) {
                          throw std::runtime_error("cleanup failed");
                      }
                  });
              } catch (const std::runtime_error&) {
              }
          }).empty());
}

TEST_CASE("bug: a task that forwards `cancelled` through a promise was said to swallow it") {
    std::promise<void> result;
    const auto forwards = [&result] {
        cancel_around([&result] {
            try {
                sleep_long();
            } catch (...) {
                result.set_exception(std::current_exception());
            }
            try {
                creel::check_cancelled(); // a second throw, and the first is still kept
            } catch (...) {
                result = std::promise<void>{};
                result.set_exception(std::current_exception());
            }
        });
    };
    CHECK(told_in_debug_mode(forwards).empty());
    const std::string text = told_in_debug_mode([&] { // kept only until the task ends
        cancel_around([] {
            std::exception_ptr kept;
            try {
                sleep_long();
            } catch (...) {
                kept = std::current_exception();
            }
        });
    });
    CHECK_THAT(text, Catch::Contains("returned normally: if that cut its work short"));
}

TEST_CASE("debug mode shows the wait whose `cancelled` leaves a noexcept function") {
    const auto careless = [] { cancel_around([]() noexcept { wait_in_a_function(); }); };
    const std::string text = abort_of_run(careless, {.debug = true});
    INFO(text);
    CHECK_THAT(text, Catch::Contains("child (#"));
    CHECK_THAT(text, Catch::Contains("creel:   a wait threw it at\ncreel:     "));
    if (has_debug_information())
        CHECK_THAT(text, Catch::Contains("wait_in_a_function() at "));
    CHECK_THAT(abort_of_run(careless), !Catch::Contains("a wait threw it at"));
}

TEST_CASE("debug mode shows the fibers that exit() leaves in a run, with their backtraces") {
    const auto exits = [] {
        creel::with_nursery([](creel::nursery& n) {
            n.spawn({.name = "pending"}, wait_in_a_function);
            n.spawn({.name = "exiting"}, [] { std::exit(3); }); // NOLINT(concurrency-mt-unsafe)
        });
    };
    const std::string text = abort_of_run(exits, {.debug = true});
    INFO(text);
    CHECK_THAT(text, Catch::StartsWith("creel: debug: exit() was called inside io::run"));
    CHECK_THAT(text, Catch::Contains("pending (#") && Catch::Contains("waits for a sleep"));
    CHECK_THAT(text, Catch::Contains("exiting (#") && Catch::Contains(") runs\n"));
    if (has_debug_information())
        CHECK_THAT(text, Catch::Contains("wait_in_a_function() at "));
    CHECK_THAT(text, Catch::Contains("creel: exit() inside io::run: let its function return"));
    CHECK_THAT(abort_of_run(exits), !Catch::Contains("pending"));
}

namespace {

[[nodiscard]] std::uintptr_t stack_here() noexcept {
    return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

// Calls itself until its frame lies below that address, and there calls `then`: by address, because
// a sanitizer makes frames larger.
[[gnu::noinline]] void go_down_to(std::uintptr_t address, void (*then)()) {
    volatile std::byte here[512];
    here[0] = std::byte{1};
    if (stack_here() > address)
        go_down_to(address, then);
    else
        then();
    here[1] = here[0];
}

[[gnu::noinline]] void use_stack(
    std::size_t bytes, void (*then)() = [] {}) {
    go_down_to(stack_here() - bytes, then);
}

std::exception_ptr kept_error;

void fail_and_keep() {
    try {
        creel::with_nursery([](creel::nursery&) { throw std::runtime_error("deep down"); });
    } catch (const std::runtime_error&) {
        kept_error = std::current_exception();
    }
}

void fail_and_catch() {
    fail_and_keep();
    kept_error = nullptr;
}

} // namespace

TEST_CASE("debug mode names the lines whose tasks nearly fill their stacks, at the end of a run") {
    constexpr std::size_t large = std::size_t{256} * 1024;
    const auto with_depth = [](std::size_t bytes) {
        return told_in_debug_mode([bytes] {
            creel::with_nursery([bytes](creel::nursery& n) {
                for (int i = 0; i < 3; ++i)
                    n.spawn({.name = "deep", .stack_bytes = large}, [=] { use_stack(bytes); });
            });
        });
    };
    const std::string text = with_depth(large / 8 * 7);
    INFO(text);
    CHECK_THAT(text, Catch::StartsWith("creel: debug: stack use of deep (spawned at "));
    CHECK_THAT(text, Catch::Contains("misuse_test.cpp:"));
    CHECK_THAT(text, Catch::Contains("of 262144 bytes, the most of 3 tasks"));
    CHECK_THAT(text, Catch::Contains("n.spawn({.stack_bytes = 524288}, f)"));
    CHECK(with_depth(large / 4).empty());
}

namespace {

constexpr std::size_t kib = 1024;

// What a task uses of its stack that throws `bytes` deep.
std::size_t mark_of_throw(std::size_t bytes, bool debug) {
    std::size_t most = 0;
    run_virtually(
        [&] {
            creel::with_nursery([bytes](creel::nursery& n) {
                n.spawn({.stack_bytes = 64 * kib}, [bytes] { use_stack(bytes, fail_and_catch); });
            });
            most = creel::stack_uses().front().most_bytes;
        },
        {.measure_stacks = true, .debug = debug});
    return most;
}

} // namespace

TEST_CASE("bug: to note the place of a throw made a stack look fuller") {
    // ASan's frames are so large that the functions around the walk may reach one page more.
    const std::size_t more = under_asan ? 4 * kib : 0;
    for (std::size_t bytes = 16 * kib; bytes < 20 * kib; bytes += 512) // each place in a page
        CHECK(mark_of_throw(bytes, true) <= mark_of_throw(bytes, false) + more);
}

TEST_CASE("bug: to note the place of a throw overflowed a stack that was large enough") {
    bool has_place = true;
    run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    const auto& self = creel::detail::this_scheduler->running();
                    const auto bottom = reinterpret_cast<std::uintptr_t>(self.stack_bottom);
                    use_stack(stack_here() - bottom - 8 * kib, fail_and_keep);
                    has_place = !creel::detail::throw_of(std::exchange(kept_error, {})).empty();
                });
            });
        },
        {.debug = true});
    CHECK(!has_place);
}

namespace {

// A call whose caller gives up while it runs, and which then calls `end`. Returns when the call is
// destroyed.
void abandon(const std::function<void()>& end) {
    std::promise<void> begun;
    std::promise<void> given_up;
    std::promise<void> gone;
    creel::with_nursery([&](creel::nursery& n) {
        n.spawn([&] {
            const std::shared_ptr<void> at_end{nullptr, [&](void*) { gone.set_value(); }};
            auto call = [&, held = at_end] {
                begun.set_value();
                given_up.get_future().wait();
                end();
            };
            creel::blocking({.abandon = true, .name = "query"}, std::move(call));
        });
        creel::this_fiber::yield();
        begun.get_future().wait();
        n.cancel();
    });
    given_up.set_value();
    gone.get_future().wait();
}

} // namespace

TEST_CASE("debug mode tells of the error of an abandoned call, which nothing else can see") {
    const std::string text =
        told_in_debug_mode([] { abandon([] { throw std::runtime_error("lost"); }); });
    INFO(text);
    CHECK_THAT(text, Catch::StartsWith("creel: debug: the abandoned blocking call \"query\" at "));
    CHECK_THAT(text, Catch::Contains("its error is dropped: lost"));
    CHECK_THAT(text, Catch::Contains("creel:   thrown at\ncreel:     "));
    CHECK(told_in_debug_mode([] {
              abandon([] {});
              abandon([] { creel::check_cancelled(); }); // it only sees the cancel
          }).empty());
}

TEST_CASE("an error of async whose handle is dropped goes to the nursery, and is told once") {
    const std::string text = told_in_debug_mode([] {
        creel::with_nursery({.on_error = creel::report()}, [](creel::nursery& n) {
            static_cast<void>(n.async({.name = "dropped"}, [] { throw std::runtime_error("oh"); }));
        });
    });
    CHECK_THAT(text, Catch::StartsWith("creel: dropped (#") && Catch::Contains("failed: oh"));
    CHECK_THAT(text, !Catch::Contains("creel: debug"));
}
