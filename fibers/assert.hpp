// CREEL_ASSERT: a bug in the caller ends the process with a message, in every build type.
//
// Use it for misuse that no caller can handle (a spawn off a creel thread, two receivers on one
// stream). A failure of the environment is thrown instead; see ARCHITECTURE.md.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <source_location>

namespace creel {

// Writes "creel: MESSAGE [EXPRESSION] at FILE:LINE in fiber NAME#ID" to stderr and aborts; off a
// run "on thread NUMBER, which has no run" instead of the fiber.
// Never returns. Threads: any.
[[noreturn]] void assertion_failed(const char* expression, const char* message,
                                   std::source_location where) noexcept;

} // namespace creel

#define CREEL_ASSERT(condition, message)                                                           \
    (__builtin_expect(static_cast<bool>(condition), 1)                                             \
         ? static_cast<void>(0)                                                                    \
         : ::creel::assertion_failed(#condition, message, std::source_location::current()))
