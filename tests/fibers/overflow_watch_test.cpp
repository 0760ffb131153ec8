// Stack overflows, in child processes, which they end.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string>

#include <unistd.h>

using namespace creel::test;

namespace {

constexpr std::size_t kib = 1024;
const creel::scheduler_options reporting{.report_overflow = true};

// Frames of some 100 bytes, and a result that depends on each.
[[gnu::noinline]] std::uint64_t recurse(std::uint64_t depth) {
    volatile std::uint64_t here[8] = {depth};
    return depth == 0 ? 0 : recurse(depth - 1) + here[0];
}

constexpr std::uint64_t without_end = std::uint64_t{1} << 40;

// Writes the far end of a frame first, as a read into a buffer does.
template <std::size_t Bytes>
[[gnu::noinline]] int one_big_frame() {
    std::array<std::byte, Bytes> buffer;
    std::byte* p = buffer.data();
    asm volatile("" : "+r"(p) : : "memory"); // clang would keep only the bytes that are named
    p[0] = std::byte{1};
    p[Bytes - 1] = std::byte{2};
    asm volatile("" : : "r"(p) : "memory");
    return static_cast<int>(p[0]);
}

bool mentions(const child_result& child, const std::string& text) {
    return child.stderr_text.find(text) != std::string::npos;
}

child_result run_one(const creel::spawn_options& options, test_body<> f) {
    return run_in_child([&] {
        run_virtually(
            [&] {
                creel::with_nursery([&](creel::nursery& n) { n.spawn(options, [&] { f(); }); });
            },
            reporting);
    });
}

void check_overflow(const child_result& child, const std::string& fiber) {
    INFO(to_string(child));
    CHECK(died_of_a_fault(child));
    if (!under_asan) // it reports by itself
        CHECK(mentions(child, "creel: stack overflow in fiber \"" + fiber + "\" (#"));
}

void say(const char* text) {
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::string{text}.size());
}

[[maybe_unused]] void previous_handler(int) {
    say("the handler before\n");
    _exit(3);
}

[[maybe_unused]] void set_handler(void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

} // namespace

TEST_CASE("an overflow by recursion names the fiber and its spawn site and the remedy") {
    const auto child = run_one({.name = "deep one"}, [] { recurse(without_end); });
    INFO(to_string(child));
    check_overflow(child, "deep one");
    if (under_asan)
        return;
    CHECK(mentions(child, "overflow_watch_test.cpp:"));
    CHECK(mentions(child, "its stack has 262144 bytes and 262"));
    CHECK(mentions(child, "n.spawn({.stack_bytes = 524288}, f)"));
}

TEST_CASE("an overflow by one frame of up to 64 KiB is caught by the guard itself") {
    const auto child =
        run_one({.name = "broad one", .stack_bytes = 32 * kib}, [] { one_big_frame<60 * kib>(); });
    check_overflow(child, "broad one");
}

TEST_CASE("an overflow by one frame larger than the guard is caught by -fstack-clash-protection") {
    const auto child =
        run_one({.name = "giant", .stack_bytes = 32 * kib}, [] { one_big_frame<1000 * kib>(); });
    check_overflow(child, "giant");
}

TEST_CASE("an overflow while many fibers run names the right one") {
    const auto child = run_in_child([] {
        run_virtually(
            [] {
                creel::with_nursery([](creel::nursery& n) {
                    for (int i = 0; i < 50; ++i)
                        n.spawn({.name = "f" + std::to_string(i)}, [i] {
                            creel::this_fiber::yield();
                            if (i == 33)
                                recurse(without_end);
                            creel::this_fiber::yield();
                        });
                });
            },
            reporting);
    });
    check_overflow(child, "f33");
}

// A sanitizer writes its own report, and may write to stacks.
#if !defined(CREEL_TEST_ASAN) && !defined(CREEL_TEST_TSAN)

namespace {

constexpr std::size_t pattern_bytes = 200 * kib;
struct {
    const volatile std::byte* begin[2];
} neighbours;

void compare_neighbours(int) {
    for (const volatile std::byte* begin : neighbours.begin)
        for (std::size_t i = 0; i < pattern_bytes; ++i)
            if (begin[i] != static_cast<std::byte>(i * 7))
                _exit(4);
    say("neighbours untouched\n");
    _exit(3);
}

} // namespace

TEST_CASE("an overflow leaves the stacks of its neighbours untouched") {
    const auto child = run_in_child([] {
        set_handler(&compare_neighbours);
        run_virtually(
            [] {
                creel::with_nursery([](creel::nursery& n) {
                    auto fill = [](std::size_t which) {
                        volatile std::byte pattern[pattern_bytes];
                        for (std::size_t i = 0; i < pattern_bytes; ++i)
                            pattern[i] = static_cast<std::byte>(i * 7);
                        neighbours.begin[which] = pattern;
                        for (;;)
                            creel::this_fiber::yield();
                    };
                    // Stacks follow each other upwards.
                    n.spawn([fill] { fill(0); });
                    n.spawn([] {
                        creel::this_fiber::yield();
                        creel::this_fiber::yield();
                        recurse(without_end);
                    });
                    n.spawn([fill] { fill(1); });
                });
            },
            reporting);
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 3);
    CHECK(mentions(child, "stack overflow"));
    CHECK(mentions(child, "neighbours untouched"));
}

TEST_CASE("the handler that was there before sees an overflow too") {
    const auto child = run_in_child([] {
        set_handler(&previous_handler);
        run_virtually(
            [] {
                creel::with_nursery(
                    [](creel::nursery& n) { n.spawn([] { recurse(without_end); }); });
            },
            reporting);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 3);
    CHECK(mentions(child, "stack overflow"));
    CHECK(mentions(child, "the handler before"));
}

TEST_CASE("a fault that is no overflow goes to the handler that was there before without a word") {
    const auto child = run_in_child([] {
        set_handler(&previous_handler);
        run_virtually(
            [] {
                creel::with_nursery([](creel::nursery& n) {
                    n.spawn([] {
                        volatile int* volatile nowhere = nullptr;
                        *nowhere = 1;
                    });
                });
            },
            reporting);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 3);
    CHECK(child.stderr_text == "the handler before\n");
}

TEST_CASE("a fault that is no overflow dies of SIGSEGV without a word") {
    const auto wild_pointer = GENERATE(false, true);
    const auto child = run_one({}, [wild_pointer] {
        volatile std::byte here{};
        // The guard is its own, but the stack is nearly unused.
        volatile std::byte* volatile nowhere = wild_pointer ? &here - 256 * kib : nullptr;
        *nowhere = std::byte{1};
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGSEGV);
    CHECK(child.stderr_text.empty());
}

TEST_CASE("SIGSEGV sent by kill does what it did before the run") {
    const auto by_default = run_one({}, [] { raise(SIGSEGV); });
    CHECK(by_default.signal == SIGSEGV);
    CHECK(by_default.stderr_text.empty());
    const auto ignored = run_in_child([] {
        set_handler(SIG_IGN); // NOLINT
        run_virtually([] { raise(SIGSEGV); }, reporting);
    });
    CHECK(ignored.exited);
    CHECK(ignored.exit_code == 0);
}

TEST_CASE("after the last run the handler and the alternate stack are those of before") {
    set_handler(&previous_handler);
    stack_t stack_before{};
    sigaltstack(nullptr, &stack_before);
    struct sigaction during {};
    stack_t stack_during{};
    for (int run = 0; run < 2; ++run)
        run_virtually(
            [&] {
                sigaction(SIGSEGV, nullptr, &during);
                sigaltstack(nullptr, &stack_during);
            },
            reporting);
    struct sigaction after {};
    sigaction(SIGSEGV, nullptr, &after);
    stack_t stack_after{};
    sigaltstack(nullptr, &stack_after);
    set_handler(SIG_DFL); // NOLINT
    CHECK(during.sa_handler != &previous_handler);
    CHECK((stack_during.ss_flags & SS_DISABLE) == 0);
    CHECK(after.sa_handler == &previous_handler);
    CHECK(stack_after.ss_flags == stack_before.ss_flags);
}

namespace {

struct sigaction put_below {};

// A crash reporter that is installed inside a run, and calls the handler before it.
void calls_what_it_found(int number, siginfo_t* info, void* context) {
    say("above\n");
    put_below.sa_sigaction(number, info, context);
}

} // namespace

TEST_CASE("a handler installed within a run that calls ours is never called by ours") {
    const auto child = run_in_child([] {
        set_handler(&previous_handler);
        run_virtually(
            [] {
                struct sigaction action {};
                action.sa_sigaction = &calls_what_it_found;
                action.sa_flags = SA_SIGINFO | SA_ONSTACK;
                sigaction(SIGSEGV, &action, &put_below);
            },
            reporting);
        run_virtually(
            [] {
                creel::with_nursery(
                    [](creel::nursery& n) { n.spawn([] { recurse(without_end); }); });
            },
            reporting);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 3);
    CHECK(child.stderr_text.find("above\n") == child.stderr_text.rfind("above\n"));
    CHECK(mentions(child, "stack overflow"));
    CHECK(mentions(child, "the handler before"));
}

TEST_CASE("a thread with an alternate stack of its own keeps it") {
    const auto child = run_in_child([] {
        static std::array<std::byte, 64 * kib> own;
        stack_t mine{};
        mine.ss_sp = own.data();
        mine.ss_size = own.size();
        sigaltstack(&mine, nullptr);
        run_virtually(
            [] {
                stack_t now{};
                sigaltstack(nullptr, &now);
                if (now.ss_sp != own.data())
                    _exit(5);
                creel::with_nursery(
                    [](creel::nursery& n) { n.spawn([] { recurse(without_end); }); });
            },
            reporting);
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGSEGV);
    CHECK(mentions(child, "stack overflow"));
}

#endif
