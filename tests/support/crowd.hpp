// Fibers of several schedulers and plain threads at one primitive at once: what the stress tests
// run on.
//
//     run_crowd("mutex stress", {}, [&](crowd_member& me) {
//         for (int i = 0; me.goes_on(i, 300); ++i)
//             me.perhaps_cut_short([&] { m.lock_cancellable(); ... m.unlock(); });
//     });
//
// A stress test is bounded twice, by its rounds and by time: a slow or a busy machine does fewer
// rounds, and takes no longer. It does a few in any case, so that the test tests something.
#pragma once

#include "support/sanitizers.hpp"
#include "support/test_body.hpp"
#include "support/time_limit.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <thread>
#include <vector>

namespace creel::test {

// A stress test does at least this many rounds, also when its time is up.
inline constexpr unsigned least_rounds = under_tsan ? 10 : 50;

// True if a loop that has done this many rounds does another.
[[nodiscard]] inline bool goes_on(std::int64_t rounds, std::int64_t most, const time_limit& limit) {
    return rounds < most && (rounds < least_rounds || !limit.passed());
}

struct crowd_options {
    unsigned schedulers = 2;
    unsigned fibers_each = 4;
    unsigned plain_threads = 2;
    // Of the fibers: time jumps to the next deadline when none of its scheduler can run, so that
    // deadlines pass as often as can be. A plain thread always has the real clock.
    bool virtual_time = false;
    std::chrono::milliseconds time{1'000}; // until goes_on() is false, after least_rounds
};

[[nodiscard]] constexpr unsigned members_of(const crowd_options& o) noexcept {
    return o.schedulers * o.fibers_each + o.plain_threads;
}

struct crowd_member {
    unsigned number; // from 0: the fibers of the first scheduler, of the next, the plain threads
    bool is_fiber;
    time_limit limit;
    std::minstd_rand random; // seeded from the printed seed and the number

    [[nodiscard]] bool goes_on(std::int64_t rounds, std::int64_t most) const {
        return test::goes_on(rounds, most, limit);
    }

    // Runs f, every other time within a deadline that often passes. True if it was not cut short.
    bool perhaps_cut_short(test_body<> f);

    // The same until it was not cut short.
    void persist(test_body<> f);
};

class crowd {
public:
    // Starts the members; each runs f once. CREEL_SEED=12345 in the environment sets the seed.
    crowd(const char* test, const crowd_options& options, std::function<void(crowd_member&)> f);
    crowd(const crowd&) = delete;
    crowd& operator=(const crowd&) = delete;
    // Joins; but a test that an exception ends would wait for members it no longer serves: aborts.
    ~crowd();

    // Returns when every member has returned.
    void join();

private:
    void take_part(unsigned number, bool is_fiber);
    void run_scheduler(unsigned number);

    const crowd_options options_;
    const std::uint32_t seed_;
    const time_limit limit_;
    const std::function<void(crowd_member&)> function_;
    std::vector<std::thread> threads_;
};

// The same from beginning to end: for a test whose own thread takes no part.
void run_crowd(const char* test, const crowd_options& options,
               std::function<void(crowd_member&)> f);

// Yields, as a fiber or as a thread.
void let_others_run();

} // namespace creel::test
