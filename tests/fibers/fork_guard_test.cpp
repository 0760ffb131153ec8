#include <creel/fibers/fork_guard.hpp>

#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/forked.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <thread>

using namespace creel::test;

namespace {

constinit std::mutex older;
constinit std::mutex newer;
constinit std::mutex without_function;

// What the functions of the child saw, in the order of their calls. Other tests of this program
// fork as well, and fork again in the child: then the first are overwritten.
struct call {
    int of = 0;
    bool all_were_free = false;
};
std::array<call, 4> calls;
std::size_t call_count = 0;

bool is_free(std::mutex& m) {
    const std::unique_lock lock{m, std::try_to_lock};
    return lock.owns_lock();
}

void note(int of) noexcept {
    calls[call_count++ % calls.size()] = {of, is_free(older) && is_free(newer) &&
                                                  is_free(without_function)};
}

const creel::fork_guard guards[]{
    creel::fork_guard{older, []() noexcept { note(1); }},
    creel::fork_guard{newer, []() noexcept { note(2); }},
    creel::fork_guard{without_function},
};

} // namespace

TEST_CASE("fork_guard: in the child all mutexes are free before its functions, oldest first") {
    CHECK(status_of_fork([] {
              expect(call_count == 2);
              expect(calls[0].of == 1 && calls[0].all_were_free);
              expect(calls[1].of == 2 && calls[1].all_were_free);
          }) == 0);
    CHECK(call_count == 0); // in the parent none is called
    CHECK((is_free(older) && is_free(newer) && is_free(without_function)));
}

// fork() takes the mutexes in the order in which the other thread takes them, or the two would wait
// for each other.
TEST_CASE("fork_guard: a child finds whole what another thread was changing under two mutexes") {
    long first = 0; // the two are equal whenever a mutex is free
    long second = 0;
    std::atomic<long> changes{0};
    std::atomic<bool> enough{false};
    std::thread other{[&] {
        while (!enough) {
            const std::lock_guard outer{newer};
            std::this_thread::yield();
            const std::lock_guard inner{older};
            ++first;
            std::this_thread::yield();
            ++second;
            ++changes;
        }
    }};
    for (int i = 0; i < 20; ++i) {
        const long seen = changes;
        while (changes == seen)
            std::this_thread::yield();
        CHECK(status_of_fork([&] { expect(first == second); }) == 0);
    }
    enough = true;
    other.join();
}
