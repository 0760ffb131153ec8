// What is known of an exception object as long as it lives: the child that it comes from, and where
// it was thrown. error_origin.cpp keeps both.
#pragma once

#include <creel/fibers/detail/unwind/unwind.hpp>

#include <cstddef>
#include <exception>
#include <span>
#include <typeinfo>
#include <vector>

namespace creel::detail {

// Of a throw at most so many frames are kept, and the throws of at most so many exceptions that are
// alive: with the frames 0.5 MiB.
inline constexpr std::size_t most_frames_of_throw = 32;
inline constexpr std::size_t most_known_throws = 1'000;

// Notes where an exception object is being thrown, unless it has been thrown before: a rethrow
// changes nothing. Not for `cancelled`. Without memory nothing is noted.
// Threads: the one that throws.
void note_throw(void* object, const std::type_info& type,
                std::span<const code_address> frames) noexcept;

// The frames of the throw, the innermost first; empty if it is not known.
// Threads: any. Throws: std::bad_alloc.
[[nodiscard]] std::vector<code_address> throw_of(const std::exception_ptr& error);

} // namespace creel::detail
