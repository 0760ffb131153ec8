// A run in a process that can get no more address space, as under `ulimit -v`. Under overcommit
// mode 2 the kernel refuses a mapping in the same way.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/memory.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <new>
#include <string>
#include <vector>

// Sanitizers map address space of their own, and do not work without it.
#if !defined(CREEL_TEST_ASAN) && !defined(CREEL_TEST_TSAN)

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// Leaves room for some 60 stacks beside the mappings of the process.
void leave_little_room() {
    limit_address_space(address_space_bytes() + (20 << 20));
}

} // namespace

TEST_CASE("a child for whose stack there is no memory fails at once, the others go on") {
    const auto child = run_in_child([] {
        leave_little_room();
        for (int run = 0; run < 2; ++run) {
            int ran = 0;
            int refused = 0;
            std::string why;
            const auto left = run_virtually([&] {
                const auto handler = [&](const std::exception_ptr& error, const creel::task_info&) {
                    why = creel::describe_exception(error);
                    creel::this_fiber::sleep_for(1us); // it has a fiber to wait on
                    ++refused;
                };
                creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
                    for (int i = 0; i < 500; ++i)
                        n.spawn([&] {
                            creel::this_fiber::sleep_for(1h);
                            ++ran;
                        });
                    creel::this_fiber::sleep_for(1min);
                    expect(ran == 0 && refused > 400 && refused < 480);
                });
                expect(ran + refused == 500);
                expect(why == "no memory for the stack of a child: {.max_fibers = ...} makes it "
                              "wait until another has ended");
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] { ran = -1; }); // there are stacks again
                });
                expect(ran == -1);
            });
            expect(left == nothing);
        }
    });
    INFO(to_string(child));
    CHECK((child.exited && child.exit_code == 0));
    CHECK_THAT(child.stderr_text, Catch::StartsWith("creel: no memory for another stack, of "));
    // Reported once in each run.
    CHECK(std::count(child.stderr_text.begin(), child.stderr_text.end(), '\n') == 2);
}

TEST_CASE("idle fibers give their stacks to a child that needs more before it fails") {
    CHECK(failure_of([] {
              leave_little_room();
              bool ran = false;
              const auto left = run_virtually([&] {
                  creel::with_nursery([](creel::nursery& n) { // 40 fibers, idle afterwards
                      for (int i = 0; i < 40; ++i)
                          n.spawn([] { creel::this_fiber::yield(); });
                  });
                  expect(creel::statistics().fibers_idle > 30);
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn({.stack_bytes = 512 << 10}, [&] { ran = true; });
                  });
              });
              expect(ran);
              expect(left == nothing);
          }) == "");
}

TEST_CASE("a child without memory for its stack fails its nursery, and get() tells the same") {
    CHECK(failure_of([] {
              leave_little_room();
              int got = 0;
              int refused = 0;
              const auto left = run_virtually([&] {
                  expect(outcome_of([&] {
                             creel::with_nursery([&](creel::nursery& n) {
                                 std::vector<creel::task<void>> all;
                                 for (int i = 0; i < 100; ++i)
                                     all.push_back(
                                         n.async([] { creel::this_fiber::sleep_for(1h); }));
                                 creel::shield([&] {
                                     for (auto& t : all)
                                         ++(outcome_of([&] { t.get(); }).starts_with("no memory")
                                                ? refused
                                                : got);
                                 });
                             });
                         }).starts_with("no memory for the stack of a child"));
              });
              expect(refused >= 1); // the first of them cancels the rest
              expect(got + refused == 100);
              expect(left == nothing);
          }) == "");
}

TEST_CASE("a child in line that finds no memory leaves its turn to the next") {
    CHECK(failure_of([] {
              leave_little_room();
              int ran = 0;
              int refused = 0;
              const auto handler = [&](const std::exception_ptr&, const creel::task_info&) {
                  ++refused;
              };
              const auto left = run_virtually(
                  [&] {
                      creel::with_nursery({.on_error = creel::report(handler)},
                                          [&](creel::nursery& n) {
                                              for (int i = 0; i < 3; ++i) {
                                                  n.spawn([&] { ++ran; });
                                                  n.spawn({.stack_bytes = 1 << 30}, [] {});
                                                  n.spawn([&] {
                                                      creel::this_fiber::sleep_for(1s);
                                                      ++ran;
                                                  });
                                              }
                                          });
                  },
                  {.max_fibers = 1});
              expect(ran == 6 && refused == 3);
              expect(left == nothing);
          }) == "");
}

TEST_CASE("while a handler waits for a child that has no memory, it and all others end") {
    CHECK(failure_of([] {
              leave_little_room();
              bool handled = false;
              bool other_failed = false;
              const auto left = run_virtually([&](manual_poller& outside) {
                  const creel::spawn_options too_large{.stack_bytes = 1 << 30};
                  const auto begin = outside.now();
                  const auto handler = [&](const std::exception_ptr&, const creel::task_info&) {
                      try {
                          creel::with_nursery(
                              [&](creel::nursery& n) { n.spawn(too_large, [] {}); });
                      } catch (const std::bad_alloc&) {
                          handled = true;
                      }
                      creel::this_fiber::sleep_for(1h);
                  };
                  creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
                      n.spawn(too_large, [] {});
                      creel::this_fiber::sleep_for(1s);
                      try {
                          creel::with_nursery(
                              [&](creel::nursery& inner) { inner.spawn(too_large, [] {}); });
                      } catch (const std::bad_alloc&) {
                          other_failed = outside.now() - begin == 1s;
                      }
                  });
              });
              expect(handled);
              expect(other_failed);
              expect(left == nothing);
          }) == "");
}

TEST_CASE("nurseries nested as deep as there is memory for stacks fail, and the run goes on") {
    CHECK(failure_of([] {
              leave_little_room();
              int ended = 0;
              int thrown = 0;
              const auto left = run_virtually([&] {
                  const auto nest = [&](const auto& self, int depth) -> void {
                      creel::with_nursery([&](creel::nursery& n) {
                          if (depth > 0)
                              n.spawn([&self, depth] { self(self, depth - 1); });
                      });
                      ++ended;
                  };
                  for (int i = 0; i < 3; ++i) {
                      try {
                          nest(nest, 1000); // each holds its stack until the next has ended
                      } catch (const std::bad_alloc&) {
                          ++thrown;
                      }
                  }
                  nest(nest, 10);
              });
              expect(thrown == 3);
              expect(ended == 11);
              expect(left == nothing);
          }) == "");
}

#endif
