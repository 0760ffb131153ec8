// Backtraces of running fibers that a signal has interrupted.
#include "support/at_exit.hpp"
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/named_frames.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/detail/unwind/unwind.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include <pthread.h>
#include <unwind.h>

using namespace creel::test;
using creel::detail::code_address;

namespace {

using handler_function = void (*)(int, siginfo_t*, void*);

// Handles a signal in this way until the end of the scope.
class handled_signal {
public:
    handled_signal(int number, handler_function f) : number_(number) {
        struct sigaction action {};
        action.sa_sigaction = f;
        action.sa_flags = SA_SIGINFO | SA_RESTART;
        ::sigaction(number_, &action, &before_);
    }
    ~handled_signal() { ::sigaction(number_, &before_, nullptr); }
    handled_signal(const handled_signal&) = delete;
    handled_signal& operator=(const handled_signal&) = delete;

private:
    int number_;
    struct sigaction before_ {};
};

// What a handler has seen.
struct sighting {
    std::array<code_address, 64> frames;
    std::size_t count = 0;
};
sighting seen;

void note_interrupted(int, siginfo_t*, void* context) {
    seen.count =
        creel::detail::unwind_interrupted(*static_cast<const ucontext_t*>(context), seen.frames);
}

[[gnu::noinline]] void interrupted_function() {
    ::raise(SIGUSR1);
    asm volatile("" ::: "memory");
}

} // namespace

TEST_CASE("a handler sees the frames of what its signal interrupted, and not its own") {
    const handled_signal handled{SIGUSR1, &note_interrupted};
    seen.count = 0;
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) { n.spawn([] { interrupted_function(); }); });
    });
    REQUIRE(seen.count > 0);
    const std::vector<code_address> frames(seen.frames.begin(), seen.frames.begin() + seen.count);
    const auto places = places_of(frames);
    CHECK(found_in_order(places, {"raise", "interrupted_function", "fiber_entry"}) == "");
    CHECK(place_named(places, "note_interrupted") == nullptr);
    CHECK(!frames.front().is_return);
}

// TSan is told of a switch before it happens. A handler that is instrumented, as this test's, and
// runs in between looks to it like a race.
#if defined(__x86_64__) && !defined(CREEL_TEST_TSAN)

namespace {

// The frames that the unwinder of the compiler finds.
struct reference_walk {
    std::uintptr_t from; // leaves out the frames before this address
    sighting found;
};

_Unwind_Reason_Code note_frame(_Unwind_Context* context, void* result) {
    auto& walk = *static_cast<reference_walk*>(result);
    int is_exact = 0;
    const std::uintptr_t address = _Unwind_GetIPInfo(context, &is_exact);
    if (address == 0 || walk.found.count == walk.found.frames.size())
        return _URC_END_OF_STACK;
    if (walk.found.count > 0 || address == walk.from)
        walk.found.frames[walk.found.count++] = {address, is_exact == 0};
    return _URC_NO_REASON;
}

struct step_counts {
    long steps = 0;
    long alone = 0; // with one frame: in Boost's switch
    long differing = 0;
};
step_counts counts;

// The compiler's unwinder writes one frame more at the end: the code below the entry of a context.
void compare_walks(int, siginfo_t*, void* context) {
    const auto& interrupted = *static_cast<const ucontext_t*>(context);
    const std::size_t count = creel::detail::unwind_interrupted(interrupted, seen.frames);
    reference_walk reference{static_cast<std::uintptr_t>(interrupted.uc_mcontext.gregs[REG_RIP]),
                             {}};
    _Unwind_Backtrace(&note_frame, &reference);
    ++counts.steps;
    counts.alone += count == 1 ? 1 : 0;
    const std::size_t expected = reference.found.count;
    const bool same_length = count == expected || count + 1 == expected;
    const auto* const mine = seen.frames.data();
    if (!same_length || !std::equal(mine, mine + count, reference.found.frames.data()))
        ++counts.differing;
}

[[gnu::noinline]] void function_that_switches() {
    creel::this_fiber::yield();
    asm volatile("" ::: "memory");
}

// Whether the processor traps after each instruction.
void trap_each_instruction(bool on) noexcept {
    constexpr unsigned long long trap_flag = 0x100;
    const unsigned long long flags = __builtin_ia32_readeflags_u64();
    __builtin_ia32_writeeflags_u64(on ? flags | trap_flag : flags & ~trap_flag);
}

} // namespace

TEST_CASE("at each instruction of a switch the frames are those of the compiler's unwinder") {
    const handled_signal handled{SIGTRAP, &compare_walks};
    counts = {};
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            n.spawn([] { function_that_switches(); });
            n.spawn([] {
                function_that_switches(); // what happens once only has then happened
                trap_each_instruction(true);
                function_that_switches();
                trap_each_instruction(false);
            });
            n.spawn([] {
                function_that_switches();
                function_that_switches();
            });
        });
    });
    CHECK(counts.steps > 50);
    CHECK(counts.alone > 0);
    CHECK(counts.alone < counts.steps / 2);
    CHECK(counts.differing == 0);
}

#endif

namespace {

std::atomic<long> walks{0};

void count_walk(int, siginfo_t*, void* context) {
    std::array<code_address, 64> frames;
    const auto& interrupted = *static_cast<const ucontext_t*>(context);
    if (creel::detail::unwind_interrupted(interrupted, frames) > 0 &&
        creel::detail::unwind_here(frames) > 0)
        walks.fetch_add(1, std::memory_order_relaxed);
}

[[gnu::noinline]] long throws_after(long depth) {
    if (depth == 0)
        throw std::runtime_error{"as planned"};
    creel::this_fiber::yield();
    return throws_after(depth - 1) + 1;
}

} // namespace

TEST_CASE("fibers switch and throw while signals walk up their stacks", "[stress]") {
    constexpr int most = under_tsan ? 1'000 : 5'000;
    const handled_signal handled{SIGUSR1, &count_walk};
    walks = 0;
    std::minstd_rand random{printed_seed("unwind stress")};
    std::atomic<bool> ends{false};
    long caught = 0;
    long wrong = 0;
    const pthread_t target = ::pthread_self();
    std::thread sender{[&] {
        const time_limit limit{std::chrono::milliseconds{1'000}};
        for (int i = 0; i < most && !limit.passed(); ++i) {
            ::pthread_kill(target, SIGUSR1);
            for (auto spin = random() % 2'000; spin > 0; --spin)
                asm volatile("");
        }
        ends = true;
    }};
    {
        const at_exit join{[&] { sender.join(); }};
        run_virtually([&] {
            creel::with_nursery([&](creel::nursery& n) {
                for (long fiber = 0; fiber < 4; ++fiber)
                    n.spawn([&, fiber] {
                        long round = 0;
                        do {
                            try {
                                throws_after((fiber + round) % 5);
                                ++wrong;
                            } catch (const std::runtime_error&) {
                                ++caught;
                            }
                            creel::this_fiber::yield();
                            ++round;
                        } while (!ends);
                    });
            });
        });
    }
    CHECK(walks > 0);
    CHECK(caught > 0);
    CHECK(wrong == 0);
}
