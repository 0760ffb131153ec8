// The options of spawn(): the fiber's name and the size of its stack.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstddef>
#include <string_view>

namespace creel {

// The most bytes that one fiber's stack may have.
inline constexpr std::size_t most_stack_bytes = std::size_t{1} << 30;

struct spawn_options {
    std::string_view name{}; // for this_fiber::name(), the dump and error messages; copied

    // Rounded up to a power of two of at least 16 KiB; 0: the scheduler's default. Above
    // most_stack_bytes, which is 1 GiB, spawn() throws std::invalid_argument.
    std::size_t stack_bytes = 0;

    // A task in the background, as all that it spawns, does not count as progress: a run in which
    // only such tasks can go on has come to a stop, and ends with creel::deadlock. For a heartbeat,
    // or another task that goes on for ever and never ends a wait of the others.
    bool is_background = false;
};

} // namespace creel
