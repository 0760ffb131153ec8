// futex(2): a thread sleeps until a word has changed. Not std::atomic::wait, because libstdc++ 12
// has no timed wait on an atomic, and its notify may touch the atomic's memory, which may be gone.
#pragma once

#include <creel/fibers/time.hpp>

#include <atomic>
#include <cstdint>

namespace creel::detail {

// Sleeps while the word has this value, until somebody wakes it, the deadline passes, or for no
// reason. Threads: any.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value,
                time_point deadline = time_point::max()) noexcept;

// Wakes one, or all, of the threads that sleep on the word. Only its address is used: the word may
// be gone, and if another has its place, that one's sleeper wakes for no reason. Threads: any.
void futex_wake_one(const std::atomic<std::uint32_t>& word) noexcept;
void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept;

} // namespace creel::detail
