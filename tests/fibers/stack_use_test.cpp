#include <creel/fibers/stack_use.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/process_end.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <source_location>
#include <stdexcept>
#include <string>

using namespace creel::test;

namespace {

const creel::scheduler_options measuring{.measure_stacks = true};
constexpr std::size_t kib = 1024;

// Touches `bytes` of the stack, a page each call or more.
[[gnu::noinline]] void go_deep(std::size_t bytes) {
    std::array<std::byte, 4096> frame;
    auto* p = frame.data();
    asm volatile("" : "+r"(p) : : "memory");
    *p = std::byte{1};
    if (bytes > sizeof frame)
        go_deep(bytes - sizeof frame);
    asm volatile("" : : "r"(p) : "memory");
}

creel::stack_use use_of(const std::string& name) {
    const auto all = creel::stack_uses();
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const auto& use) { return use.name == name; });
    return found == all.end() ? creel::stack_use{} : *found;
}

} // namespace

TEST_CASE("a stack's high-water mark is kept for the line that spawned") {
    run_virtually(
        [] {
            unsigned line = 0;
            creel::with_nursery([&](creel::nursery& n) {
                for (const std::size_t deep : {8 * kib, 100 * kib, 24 * kib}) {
                    line = std::source_location::current().line() + 1;
                    n.spawn({.name = "deep " + std::to_string(deep)}, [deep] { go_deep(deep); });
                }
                n.spawn({.name = "shallow"}, [] {});
            });
            const auto uses = creel::stack_uses();
            CHECK(uses.size() == 2);
            const auto deep = use_of("deep " + std::to_string(100 * kib));
            CHECK(deep.tasks == 3);
            CHECK(deep.spawned_at.line() == line);
            CHECK(deep.stack_bytes == 256 * kib);
            CHECK(deep.most_bytes >= 100 * kib);
            CHECK(deep.most_bytes < 256 * kib);
            CHECK(uses.front().name == deep.name); // the closest to its end comes first
            const auto text = creel::to_string(deep);
            CHECK(text.find("stack_use_test.cpp:" + std::to_string(line) +
                            "): " + std::to_string(deep.most_bytes) + " of 262144 bytes") !=
                  std::string::npos);
        },
        measuring);
}

TEST_CASE("a task on a recycled stack is not charged with what the one before it used") {
    run_virtually(
        [] {
            creel::with_nursery([](creel::nursery& n) {
                n.spawn({.name = "deep"}, [] { go_deep(120 * kib); });
                n.spawn({.name = "next"}, [] { go_deep(1); });
            });
            CHECK(creel::statistics().fibers_created == 1); // they shared it
            CHECK(use_of("deep").most_bytes >= 120 * kib);
            CHECK(use_of("next").most_bytes > 0);
            CHECK(use_of("next").most_bytes < 60 * kib);
        },
        measuring);
}

TEST_CASE("a task that lives is measured when asked, and one that failed is too") {
    run_virtually(
        [] {
            gate g;
            creel::with_nursery({.on_error = creel::report([](auto&&...) {})},
                                [&](creel::nursery& n) {
                                    n.spawn({.name = "living"}, [&] {
                                        go_deep(64 * kib);
                                        g.pass();
                                    });
                                    n.spawn({.name = "failed"}, [] {
                                        go_deep(32 * kib);
                                        throw std::runtime_error("after that");
                                    });
                                    creel::this_fiber::yield();
                                    n.spawn({.name = "not started"}, [] {});
                                    CHECK(use_of("living").most_bytes >= 64 * kib);
                                    CHECK(use_of("living").tasks == 1);
                                    CHECK(use_of("failed").most_bytes >= 32 * kib);
                                    CHECK(use_of("not started").tasks == 0);
                                    g.open();
                                });
            CHECK(use_of("living").tasks == 1); // the measurements in between were not kept
        },
        measuring);
}

TEST_CASE("a small stack is measured against its own size") {
    run_virtually(
        [] {
            creel::with_nursery([](creel::nursery& n) {
                n.spawn({.name = "small", .stack_bytes = 64 * kib}, [] { go_deep(16 * kib); });
            });
            CHECK(use_of("small").stack_bytes == 64 * kib);
            CHECK(use_of("small").most_bytes >= 16 * kib);
            CHECK(use_of("small").most_bytes <= 64 * kib);
        },
        measuring);
}

TEST_CASE("stack_uses in a run that does not measure says what to do") {
    CHECK_THAT(abort_of_run([] { static_cast<void>(creel::stack_uses()); }),
               Catch::Contains("measure_stacks = true"));
}
