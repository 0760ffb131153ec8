#pragma once

// Measures two threads that work with each other, each on a core of its own, in wall-clock time.

#include "pin.hpp"

#include <creel/io/run.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

namespace creel::bench {

// How each side runs its part.
using runner = std::function<void(const std::function<void()>&)>;

inline void on_ring(const std::function<void()>& part) {
    io::run([&] { part(); });
}
inline void on_thread(const std::function<void()>& part) {
    part();
}

// Runs `here` and `there` at the same time and returns the nanoseconds per round, until `here` has
// returned or, with `until::both`, until both have.
enum class until : bool { here, both };

inline double time_both(const runner& run, std::uint64_t rounds, const std::function<void()>& here,
                        const std::function<void()>& there, until end = until::here) {
    std::thread other{[&] { // made before this thread is pinned: it would inherit the core
        pin_to_allowed_core(1);
        run(there);
    }};
    const pinned first{0};
    std::chrono::nanoseconds spent{};
    run([&] {
        const auto start = std::chrono::steady_clock::now();
        here();
        if (end == until::both)
            other.join();
        spent = std::chrono::steady_clock::now() - start;
    });
    if (other.joinable())
        other.join();
    return static_cast<double>(spent.count()) / static_cast<double>(rounds);
}

} // namespace creel::bench
