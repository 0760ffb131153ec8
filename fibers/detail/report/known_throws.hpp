// Where an exception object was thrown, as long as it lives.
#pragma once

#include <creel/fibers/detail/unwind/unwind.hpp>

#include <cstddef>
#include <exception>
#include <typeinfo>
#include <vector>

namespace creel::detail {

// Of a throw at most so many frames are kept, and the throws of at most so many exceptions that are
// alive: with the frames 0.5 MiB of memory, which a process without debug mode never touches.
inline constexpr std::size_t most_frames_of_throw = 32;
inline constexpr std::size_t most_known_throws = 1'000;

// Notes where an exception object is being thrown, unless it has been thrown before: a rethrow
// changes nothing. Not for `cancelled`. It is called before anything is unwound, so the code that
// throws may hold any lock, also that of operator new: note_throw() allocates nothing and waits for
// nothing. If too many are known, or if the stack has no room (throw_walk.hpp), nothing is noted.
// The frames begin with the one of this return address. Threads: the one that throws.
void note_throw(void* object, const std::type_info& type, const void* return_address) noexcept;

// The frames of the throw, the innermost first; empty if it is not known.
// Threads: any that has a reference to the exception. Throws: std::bad_alloc.
[[nodiscard]] std::vector<code_address> throw_of(const std::exception_ptr& error);

} // namespace creel::detail
