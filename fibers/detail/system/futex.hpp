// futex(2): a thread sleeps until a word has changed. std::atomic::wait does not serve, because
// libstdc++ 12 has no timed wait on an atomic, and its notify may touch the atomic after it is
// destroyed.
#pragma once

#include <creel/fibers/time.hpp>

#include <atomic>
#include <cstdint>

namespace creel::detail {

// Returns at once if the word does not have this value. Else sleeps until a thread wakes it or the
// deadline passes, but may wake for no reason. Threads: any.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value,
                time_point deadline = time_point::max()) noexcept;

// Wakes one, or all, of the threads that sleep on the word. It uses the address only: the word may
// be destroyed. If another word lies at that address, a thread that sleeps on it wakes for no
// reason. Threads: any.
void futex_wake_one(const std::atomic<std::uint32_t>& word) noexcept;
void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept;

} // namespace creel::detail
