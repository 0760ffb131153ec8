// A run in a process that may have no more address space, as under `ulimit -v`, or under overcommit
// mode 2, where the kernel refuses a mapping in the same way.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/memory.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <new>

// Sanitizers map address space of their own, and cannot live without it.
#if !defined(CREEL_TEST_ASAN) && !defined(CREEL_TEST_TSAN)

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// Leaves room for some 60 stacks beside what the process has.
void leave_little_room() {
    limit_address_space(address_space_bytes() + (20 << 20));
}

} // namespace

TEST_CASE("fibers for which there is no address space wait for the stacks of those that end") {
    const auto child = run_in_child([] {
        leave_little_room();
        int ran = 0;
        std::size_t most_alive = 0;
        for (int run = 0; run < 2; ++run) {
            const auto left = run_virtually([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    for (int i = 0; i < 500; ++i)
                        n.spawn([&] {
                            creel::this_fiber::sleep_for(1ms);
                            ++ran;
                            most_alive =
                                std::max<std::size_t>(most_alive, creel::statistics().fibers_alive);
                        });
                });
            });
            expect(left == nothing);
        }
        expect(ran == 1000);
        expect(most_alive > 20 && most_alive < 100);
    });
    INFO(to_string(child));
    CHECK((child.exited && child.exit_code == 0));
    CHECK_THAT(child.stderr_text, Catch::StartsWith("creel: no memory for another stack, of "));
    // Told once in each run.
    CHECK(std::count(child.stderr_text.begin(), child.stderr_text.end(), '\n') == 2);
}

TEST_CASE("where only fibers without a stack could go on, their nursery throws and the run does") {
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
