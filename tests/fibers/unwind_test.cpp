// Backtraces of fibers. The names of the frames are looked up, so that the tests can say which
// functions they expect.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/named_frames.hpp"

#include <creel/fibers/detail/unwind/saved_registers.hpp>
#include <creel/fibers/detail/unwind/unwind.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/started.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/context/detail/fcontext.hpp>
#include <boost/fiber/context.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include <sys/mman.h>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::detail::code_address;

namespace {

// A function that calls another must not jump to it instead.
void come_back() noexcept {
    asm volatile("" ::: "memory");
}

unsigned line_of_wait = 0;
unsigned line_of_call = 0;

[[gnu::noinline]] void unwind_test_wait(test_body<> wait) {
    line_of_wait = __LINE__ + 1;
    wait();
    come_back();
}

[[gnu::noinline]] void unwind_test_middle(test_body<> wait) {
    line_of_call = __LINE__ + 1;
    unwind_test_wait(wait);
    come_back();
}

[[gnu::noinline]] void unwind_test_outer(test_body<> wait) {
    unwind_test_middle(wait);
    come_back();
}

[[gnu::always_inline]] inline void unwind_test_inlined(test_body<> wait) {
    unwind_test_middle(wait);
    come_back();
}

[[gnu::noinline]] void unwind_test_around_inlined(test_body<> wait) {
    unwind_test_inlined(wait);
    come_back();
}

const std::vector<std::string> chain{"unwind_test_wait", "unwind_test_middle", "unwind_test_outer"};

std::vector<code_address> parked_frames(const boost::fibers::context& c) {
    std::vector<code_address> frames(64);
    frames.resize(creel::detail::unwind_parked(c, frames));
    return frames;
}

std::vector<code_address> frames_here() {
    std::vector<code_address> frames(64);
    frames.resize(creel::detail::unwind_here(frames));
    return frames;
}

// Runs f in a fiber until it parks, and returns its frames then.
std::vector<code_address> frames_of_parked(test_body<test_body<>> f) {
    std::vector<code_address> result;
    run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            boost::fibers::context* parked = nullptr;
            n.spawn([&] {
                parked = boost::fibers::context::active();
                auto sleep = [] { creel::this_fiber::sleep_for(1s); };
                test_body<> wait{sleep};
                f(wait);
            });
            creel::this_fiber::yield();
            result = parked_frames(*parked);
        });
    });
    return result;
}

} // namespace

TEST_CASE("a parked fiber shows the functions in which it waits, with file and line") {
    auto body = [](test_body<>& wait) { unwind_test_outer(wait); };
    const auto places = places_of(frames_of_parked(body));
    CHECK(found_in_order(places, chain) == "");
    const auto* const wait = place_named(places, "unwind_test_wait");
    const auto* const middle = place_named(places, "unwind_test_middle");
    REQUIRE(wait != nullptr);
    REQUIRE(middle != nullptr);
    if (has_debug_information()) {
        CHECK(wait->file.ends_with("tests/fibers/unwind_test.cpp"));
        CHECK(wait->line == line_of_wait);
        CHECK(middle->line == line_of_call);
    }
}

TEST_CASE("a backtrace ends at the entry of the fiber") {
    auto body = [](test_body<>& wait) { unwind_test_outer(wait); };
    const auto places = places_of(frames_of_parked(body));
    REQUIRE(!places.empty());
    CHECK(places.back().function.find("fiber_entry") != std::string::npos);
}

TEST_CASE("a parked fiber shows a function that was inlined, and the one around it") {
    auto body = [](test_body<>& wait) { unwind_test_around_inlined(wait); };
    const auto places = places_of(frames_of_parked(body));
    if (has_debug_information()) {
        CHECK(found_in_order(places, {"unwind_test_middle", "unwind_test_inlined",
                                      "unwind_test_around_inlined"}) == "");
        const auto* const inlined = place_named(places, "unwind_test_inlined");
        CHECK((inlined != nullptr && inlined->is_inlined));
    }
}

TEST_CASE("a native fiber that waits for Boost's mutex shows where") {
    std::vector<code_address> frames;
    run_virtually([&] {
        boost::fibers::mutex m;
        m.lock();
        boost::fibers::context* parked = nullptr;
        auto lock = [&] { const std::lock_guard held{m}; };
        boost::fibers::fiber f{[&] {
            parked = boost::fibers::context::active();
            unwind_test_outer(lock);
        }};
        boost::this_fiber::yield();
        frames = parked_frames(*parked);
        m.unlock();
        f.join();
    });
    std::vector<std::string> expected{"boost::fibers::mutex::lock"};
    expected.insert(expected.end(), chain.begin(), chain.end());
    CHECK(found_in_order(places_of(frames), expected) == "");
}

TEST_CASE("a running fiber shows its own functions, from its caller on") {
    std::vector<code_address> frames;
    std::size_t as_if_parked = 1;
    run_virtually([&] {
        auto look = [&] {
            frames = frames_here();
            as_if_parked = parked_frames(*boost::fibers::context::active()).size();
        };
        creel::with_nursery([&](creel::nursery& n) { n.spawn([&] { unwind_test_outer(look); }); });
    });
    std::vector<std::string> expected{"frames_here"};
    expected.insert(expected.end(), chain.begin(), chain.end());
    const auto places = places_of(frames);
    CHECK(found_in_order(places, expected) == "");
    CHECK(places.front().function.find("frames_here") != std::string::npos);
    CHECK(as_if_parked == 0);
}

TEST_CASE("a walk writes as many frames as there is room for, and leaves out those to skip") {
    std::array<code_address, 64> all;
    std::array<code_address, 2> two;
    std::array<code_address, 64> later;
    const std::size_t count = creel::detail::unwind_here(all);
    const std::size_t written = creel::detail::unwind_here(two);
    const std::size_t left = creel::detail::unwind_here(later, 1);
    CHECK(creel::detail::unwind_here({}) == 0);
    CHECK(creel::detail::unwind_here(later, 1000) == 0);
    REQUIRE(count > 2);
    CHECK(written == 2);
    CHECK(two[1] == all[1]);
    CHECK(left == count - 1);
}

TEST_CASE("a context that was not entered has no frames") {
    alignas(64) std::array<std::byte, 4096> stack{};
    void* const fresh = boost::context::detail::make_fcontext(
        stack.data() + stack.size(), stack.size(), [](boost::context::detail::transfer_t) {});
    std::array<code_address, 8> frames;
    CHECK(creel::detail::unwind_saved(fresh, frames) == 0);
    CHECK(creel::detail::unwind_saved(nullptr, frames) == 0);
}

TEST_CASE("an exception that a fiber handles while others look at it stays its own") {
    std::string rethrown;
    run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            boost::fibers::context* parked = nullptr;
            n.spawn([&] {
                parked = boost::fibers::context::active();
                try {
                    try {
                        throw std::string{"its own"};
                    } catch (...) {
                        creel::this_fiber::sleep_for(1s);
                        frames_here();
                        throw;
                    }
                } catch (const std::string& caught) {
                    rethrown = caught;
                }
            });
            creel::this_fiber::yield();
            parked_frames(*parked);
        });
    });
    CHECK(rethrown == "its own");
}

TEST_CASE("the trial finds each register that a call keeps") {
    const creel::detail::saved_registers& saved = creel::detail::learn_saved_registers();
    CHECK(&saved == &creel_saved_registers);
    CHECK(saved.version == creel::detail::saved_registers::this_version);
    REQUIRE(saved.known == 1);
    std::vector<std::int32_t> offsets{saved.address};
    for (std::uint32_t i = 0; i < saved.count; ++i)
        offsets.push_back(saved.registers[i].offset);
    std::sort(offsets.begin(), offsets.end());
    CHECK(std::adjacent_find(offsets.begin(), offsets.end()) == offsets.end());
    CHECK(offsets.front() >= 0);
    CHECK(offsets.back() < saved.frame_bytes);
}

TEST_CASE("the offsets for a debugger lead to the saved stack pointer") {
    bool same = false;
    run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            boost::fibers::context* parked = nullptr;
            n.spawn([&] {
                parked = boost::fibers::context::active();
                creel::this_fiber::sleep_for(1s);
            });
            creel::this_fiber::yield();
            const auto& saved = creel::detail::learn_saved_registers();
            const void* pointer = nullptr;
            std::memcpy(&pointer,
                        reinterpret_cast<const std::byte*>(parked) + saved.fiber_offset +
                            saved.pointer_offset,
                        sizeof pointer);
            same = pointer != nullptr && pointer == creel::detail::saved_stack_pointer(*parked);
        });
    });
    CHECK(same);
}

#if defined(__x86_64__)

TEST_CASE("a walk over memory that is not readable ends there") {
    void* const wall = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(wall != MAP_FAILED);
    ucontext_t broken{};
    REQUIRE(::getcontext(&broken) == 0);
    broken.uc_mcontext.gregs[REG_RSP] = reinterpret_cast<greg_t>(wall);
    broken.uc_mcontext.gregs[REG_RBP] = reinterpret_cast<greg_t>(wall);
    std::array<code_address, 8> frames;
    const std::size_t count = creel::detail::unwind_interrupted(broken, frames);
    CHECK(count == 1);
    CHECK(!frames[0].is_return);
    broken.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(wall);
    CHECK(creel::detail::unwind_interrupted(broken, frames) == 1);
    ::munmap(wall, 4096);
}

#endif
