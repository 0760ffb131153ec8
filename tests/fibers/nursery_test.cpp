#include <creel/fibers/nursery.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("with_nursery waits for every child and returns the body's value") {
    const auto left = run_virtually([] {
        int ended = 0;
        const int value = creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 10; ++i)
                n.spawn([&] {
                    creel::this_fiber::sleep_for(1s);
                    ++ended;
                });
            CHECK(n.children() == 10);
            return 7;
        });
        CHECK(value == 7);
        CHECK(ended == 10);
    });
    CHECK(left == nothing);
}

TEST_CASE("children start in the order they were spawned") {
    run_virtually([] {
        std::string order;
        creel::with_nursery([&](creel::nursery& n) {
            for (char c = 'a'; c <= 'j'; ++c)
                n.spawn([&order, c] { order += c; });
        });
        CHECK(order == "abcdefghij");
    });
}

TEST_CASE("children may spawn more children, also after the body has returned") {
    run_virtually([] {
        int ran = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                creel::this_fiber::sleep_for(1s);
                n.spawn([&] { ++ran; });
            });
        });
        CHECK(ran == 1);
    });
}

TEST_CASE("cancel() ends a group early with no error") {
    const auto left = run_virtually([] {
        int cancelled = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    when_cancelled([&](const creel::cancelled& c) {
                        CHECK(c.reason().text == "enough");
                        ++cancelled;
                    });
                });
            creel::this_fiber::sleep_for(1s);
            n.cancel("enough");
            n.cancel("again");
        });
        CHECK(cancelled == 3);
    });
    CHECK(left == nothing);
}

TEST_CASE("a body with a value that was cut short by cancel() gives task_cancelled") {
    run_virtually([] {
        CHECK_THROWS_AS(creel::with_nursery([](creel::nursery& n) {
                            n.cancel("enough");
                            creel::this_fiber::yield();
                            return 1;
                        }),
                        creel::task_cancelled);
        CHECK(creel::with_nursery([](creel::nursery& n) {
                  n.cancel();
                  return 1; // no wait: it was not cut short
              }) == 1);
    });
}

TEST_CASE("spawning into a cancelled nursery destroys the closure at once and runs nothing") {
    run_virtually([] {
        bool ran = false;
        const auto owned = std::make_shared<int>(1);
        creel::with_nursery([&](creel::nursery& n) {
            n.cancel();
            n.spawn([&ran, copy = owned] { ran = copy != nullptr; });
            CHECK(owned.use_count() == 1);
        });
        CHECK(!ran);
    });
}

TEST_CASE("a child that has not started when its nursery is cancelled never runs") {
    run_virtually([] {
        bool ran = false;
        const auto owned = std::make_shared<int>(1);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&ran, copy = owned] { ran = copy != nullptr; });
            n.cancel();
        });
        CHECK(!ran);
        CHECK(owned.use_count() == 1);
    });
}

TEST_CASE("a child that a cancel from outside has dropped counts as cancelled") {
    const auto left = run_virtually([](manual_poller& outside) {
        bool ran = false;
        bool went_on = false;
        const auto child = [&] { ran = true; };
        const auto group = [&](auto body) {
            creel::with_nursery(body);
            went_on = true;
        };
        creel::cancel_scope before;
        CHECK(!before.run([&] {
            before.cancel();
            group([&](creel::nursery& n) { n.spawn(child); });
        }));
        creel::cancel_scope between;
        CHECK(!between.run([&] {
            group([&](creel::nursery& n) {
                n.spawn(child);
                between.cancel();
            });
        }));
        CHECK_THROWS_AS(creel::fail_after(5ms,
                                          [&] {
                                              group([&](creel::nursery& n) {
                                                  for (int i = 0; i < 500; ++i)
                                                      n.spawn([&] { outside.advance(100us); });
                                              });
                                          }),
                        creel::timed_out);
        creel::task<int> handle;
        creel::cancel_scope with_handle;
        CHECK(!with_handle.run([&] {
            group([&](creel::nursery& n) {
                handle = n.async([] { return 1; });
                with_handle.cancel();
            });
        }));
        CHECK_THROWS_AS(handle.get(), creel::task_cancelled);
        creel::cancel_scope with_value;
        CHECK(!with_value
                   .run([&] {
                       return creel::with_nursery([&](creel::nursery& n) {
                           n.spawn(child);
                           with_value.cancel();
                           return 7;
                       });
                   })
                   .has_value());
        CHECK(!ran);
        CHECK(!went_on);
    });
    CHECK(left == nothing);
}

TEST_CASE("a child that the nursery's own cancel has dropped is absorbed by it") {
    run_virtually([] {
        bool ran = false;
        bool went_on = false;
        creel::cancel_scope around;
        const bool finished = around.run([&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { ran = true; });
                n.cancel();
                n.spawn([&] { ran = true; });
            });
            went_on = true;
        });
        CHECK(finished);
        CHECK(went_on);
        CHECK(!ran);
    });
}

TEST_CASE("a child dropped under a nursery's shield that was raised too late still counts") {
    run_virtually([] {
        bool went_on = false;
        creel::cancel_scope around;
        const bool finished = around.run([&] {
            creel::with_nursery([&](creel::nursery& n) {
                around.cancel("outside");
                n.spawn([] {});
                n.scope().set_shielded(true);
                creel::this_fiber::sleep_for(1s); // does not see it
            });
            went_on = true;
        });
        CHECK(!finished);
        CHECK(!went_on);
    });
}

TEST_CASE("join() in the body waits for the children, so that they may use its locals") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        std::string seen;
        creel::with_nursery([&](creel::nursery& n) {
            n.join(); // of none
            const std::string local(100, 'x');
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    creel::this_fiber::sleep_for(1s);
                    seen = local;
                });
            n.join();
            CHECK(seen == local);
            CHECK(outside.now() - begin == 1s);
            n.spawn([&] { seen = "later"; }); // it is open as before
        });
        CHECK(seen == "later");
    });
    CHECK(left == nothing);
}

TEST_CASE("join() in a cancelled nursery waits for the children all the same, and then throws") {
    run_virtually([] {
        bool child_ended = false;
        bool joined = false;
        const auto slow_to_end = [&] {
            when_cancelled([&] {
                creel::shield([] { creel::this_fiber::sleep_for(1s); });
                child_ended = true;
            });
        };
        CHECK(outcome_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn(slow_to_end);
                      n.spawn([] { throw std::runtime_error("boom"); });
                      try {
                          n.join();
                          joined = true;
                      } catch (const creel::cancelled&) {
                          CHECK(child_ended);
                          throw;
                      }
                  });
              }) == "boom");
        CHECK(!joined);
        CHECK(child_ended);
    });
}

TEST_CASE("join() by a child is a clear error") {
    CHECK_THAT(abort_of_run([] {
                   creel::with_nursery([](creel::nursery& n) { n.spawn([&] { n.join(); }); });
               }),
               Catch::Contains("join() is called by the body of the nursery"));
}

TEST_CASE("a closure is destroyed before its nursery ends") {
    run_virtually([] {
        std::weak_ptr<int> seen;
        creel::with_nursery([&](creel::nursery& n) {
            auto owned = std::make_shared<int>(1);
            seen = owned;
            n.spawn([o = std::move(owned)] { creel::this_fiber::sleep_for(1s); });
        });
        CHECK(seen.expired());
    });
}

TEST_CASE("leaving an empty nursery is a schedule point") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            bool ran = false;
            n.spawn([&] { ran = true; });
            creel::with_nursery([](creel::nursery&) {});
            CHECK(ran);
        });
    });
}

TEST_CASE("leaving a nursery is not a cancel point") {
    run_virtually([] {
        bool reached = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.cancel();
            creel::with_nursery([](creel::nursery&) {});
            reached = true;
        });
        CHECK(reached);
    });
}

TEST_CASE("closures may be large, over-aligned, move-only, and throw when moved in") {
    struct alignas(64) wide {
        std::array<char, 1000> bytes{};
    };
    struct throws_on_copy {
        throws_on_copy() = default;
        throws_on_copy(const throws_on_copy&) { throw std::runtime_error("copy"); }
        void operator()() const {}
    };
    const auto left = run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            auto unique = std::make_unique<int>(3);
            wide w;
            w.bytes[999] = 'x';
            n.spawn([w, u = std::move(unique)] {
                CHECK(reinterpret_cast<std::uintptr_t>(&w) % 64 == 0);
                CHECK(w.bytes[999] == 'x');
                CHECK(*u == 3);
            });
            const throws_on_copy f;
            CHECK_THROWS_WITH(n.spawn(f), "copy");
            CHECK(n.children() == 1);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("a spawn from another thread is a clear error") {
    const std::string message = abort_of_run([] {
        creel::with_nursery([](creel::nursery& n) { std::thread{[&] { n.spawn([] {}); }}.join(); });
    });
    CHECK_THAT(message, Catch::Contains("on its own thread only"));
    CHECK_THAT(message, Catch::Contains("belongs to thread "));
    CHECK_THAT(message, Catch::Contains(", which has no run"));
    CHECK_THAT(message, Catch::Contains("nursery.remote()"));
}

namespace {
// Each level is a fiber of its own; a cancel walks all of them on one stack.
void nest(int levels, int& unwound) {
    creel::with_nursery([&](creel::nursery& n) {
        if (levels > 0)
            n.spawn([&, levels] { nest(levels - 1, unwound); });
        when_cancelled([&] { ++unwound; });
    });
}
} // namespace

TEST_CASE("nurseries nested 2,000 deep are cancelled without running out of stack") {
    run_virtually([] {
        constexpr int depth = under_tsan ? 300 : 2'000;
        int unwound = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { nest(depth, unwound); });
            creel::this_fiber::sleep_for(1s);
            n.spawn({.stack_bytes = 16384}, [&] { n.cancel(); });
        });
        CHECK(unwound == depth + 1);
    });
}

TEST_CASE("a child keeps its name and its closure whole whatever their size and alignment") {
    // Nodes are recycled: the second round reuses those of the first.
    struct alignas(64) wide {
        unsigned char bytes[64];
    };
    struct huge {
        unsigned char bytes[2000];
    };
    std::size_t wrong = 0;
    std::size_t ran = 0;
    run_virtually([&] {
        for (int round = 0; round < 2; ++round)
            creel::with_nursery([&](creel::nursery& n) {
                for (const std::size_t length : {0U, 1U, 15U, 16U, 70U, 90U, 300U, 1000U}) {
                    std::string name(length, static_cast<char>('a' + length % 26));
                    auto check = [&wrong, &ran, name](const auto& payload) {
                        creel::this_fiber::yield();
                        wrong += creel::this_fiber::name() != name ? 1 : 0;
                        const auto address = reinterpret_cast<std::uintptr_t>(&payload);
                        wrong += address % alignof(decltype(payload)) != 0 ? 1 : 0;
                        for (const unsigned char byte : payload.bytes)
                            wrong += byte != 7 ? 1 : 0;
                        ++ran;
                    };
                    wide aligned;
                    std::fill(std::begin(aligned.bytes), std::end(aligned.bytes), 7);
                    huge large;
                    std::fill(std::begin(large.bytes), std::end(large.bytes), 7);
                    n.spawn({.name = name}, [check, aligned] { check(aligned); });
                    n.spawn({.name = name}, [check, large] { check(large); });
                    n.spawn({.name = name}, [&ran, &wrong, length] {
                        wrong += creel::this_fiber::name().size() != length ? 1 : 0;
                        ++ran;
                    });
                }
                n.spawn([&] { wrong += creel::this_fiber::name().empty() ? 0 : 1; });
            });
    });
    CHECK(ran == 2 * 8 * 3);
    CHECK(wrong == 0);
}

TEST_CASE("a nursery off a scheduler's thread is a clear error") {
    CHECK_THAT(abort_of([] { creel::with_nursery([](creel::nursery&) {}); }),
               Catch::Contains("needs a running scheduler"));
}

TEST_CASE("a stack of more than 1 GiB is refused by the spawn that asks for it") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            const creel::spawn_options large{.stack_bytes = std::size_t{2} << 30};
            const std::string refused = "stack_bytes of a spawn is 2147483648; a fiber's stack may "
                                        "have at most 1 GiB";
            CHECK(outcome_of([&] { n.spawn(large, [] {}); }) == refused);
            CHECK(outcome_of([&] { static_cast<void>(n.remote().spawn(large, [] {})); }) ==
                  refused);
        });
    });
}
