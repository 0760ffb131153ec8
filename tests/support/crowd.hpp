// Fibers of several schedulers, and plain threads, that use one primitive at the same time: the
// base of the stress tests.
//
//     run_crowd("mutex stress", {}, [&](crowd_member& me) {
//         for (int i = 0; me.goes_on(i, 300); ++i)
//             me.perhaps_cut_short([&] { m.lock_cancellable(); ... m.unlock(); });
//     });
//
// A stress test has two bounds, its rounds and its time: on a slow or busy machine it does fewer
// rounds and takes no longer. It always does a few rounds, so that it tests something.
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

// A stress test does at least this number of rounds, even if its time has passed.
inline constexpr unsigned least_rounds = under_tsan ? 10 : 50;

// Returns true if a loop that has done this number of rounds must do another.
[[nodiscard]] inline bool goes_on(std::int64_t rounds, std::int64_t most, const time_limit& limit) {
    return rounds < most && (rounds < least_rounds || !limit.passed());
}

struct crowd_options {
    unsigned schedulers = 2;
    unsigned fibers_each = 4;
    unsigned plain_threads = 2;
    // The fibers have a virtual clock: when no fiber of a scheduler can run, the time jumps to the
    // next deadline. So deadlines pass as often as possible. A plain thread always has the real
    // clock.
    bool virtual_time = false;
    std::chrono::milliseconds time{1'000}; // after it, and least_rounds, goes_on() is false
};

[[nodiscard]] constexpr unsigned members_of(const crowd_options& o) noexcept {
    return o.schedulers * o.fibers_each + o.plain_threads;
}

struct crowd_member {
    unsigned number; // from 0: fibers of the first scheduler, of the next, then plain threads
    bool is_fiber;
    time_limit limit;
    std::minstd_rand random; // seeded from the printed seed and the number

    [[nodiscard]] bool goes_on(std::int64_t rounds, std::int64_t most) const {
        return test::goes_on(rounds, most, limit);
    }

    // Runs f. Every second time f has a deadline that often passes. Returns true if f ran to its
    // end.
    bool perhaps_cut_short(test_body<> f);

    // Does the same until f has run to its end.
    void persist(test_body<> f);
};

class crowd {
public:
    // Starts the members. Each runs f once. CREEL_SEED=12345 in the environment sets the seed.
    crowd(const char* test, const crowd_options& options, std::function<void(crowd_member&)> f);
    crowd(const crowd&) = delete;
    crowd& operator=(const crowd&) = delete;
    // Joins. During an exception it aborts: the test no longer serves its members, so a join would
    // wait for ever.
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

// Makes a crowd and joins it: for a test whose own thread takes no part.
void run_crowd(const char* test, const crowd_options& options,
               std::function<void(crowd_member&)> f);

// Yields the calling fiber or thread.
void let_others_run();

} // namespace creel::test
