// The backtrace of a fiber, parked or running, as addresses: no name is looked up, nothing is
// allocated, no lock is taken. code_names (symbols.hpp) finds the names later, on another thread.
//
// A walk up a stack goes by the tables that exceptions use. creel reads them itself, because the
// compiler's unwinder trusts what it finds: where a table is wrong, as beside some assembly, it
// loads from an address that is none. Here a walk ends at the first frame
//   - that no table describes: the entry of a context, and Boost's assembly that switches,
//   - whose words are not readable,
//   - or that does not lie above the frame that it called, as the frames of a stack do.
// Only the frame at which it begins need not be described.
//
// No function here throws, or touches exceptions that are on their way. Each uses less than 4 KiB
// of stack. Elsewhere than on x86-64 with glibc 2.35 (machine.hpp) each returns 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <ucontext.h>

namespace boost::fibers {
class context;
}

namespace creel::detail {

struct code_address {
    std::uintptr_t address = 0;
    // The address behind a call. Else the instruction at the address was interrupted.
    bool is_return = true;

    // Lies in the instruction that the function executes.
    [[nodiscard]] std::uintptr_t inside() const noexcept { return address - (is_return ? 1 : 0); }

    friend bool operator==(const code_address&, const code_address&) = default;
};

// All of them return how many frames they wrote, the innermost first: at most as many as there is
// room for.

// Of a fiber that does not run. It begins with Boost's function that switched. Returns 0 if the
// fiber runs, or if its context has not been entered. The walk is faster if the caller knows the
// fiber's stack, which must then be mapped.
// Threads: the fiber's own, or any while that one cannot switch. Not from a signal handler, except
// after a call of learn_saved_registers().
[[nodiscard]] std::size_t unwind_parked(const boost::fibers::context& c,
                                        std::span<code_address> out,
                                        std::span<const std::byte> stack = {}) noexcept;

// The same from the saved stack pointer of a context of Boost: null if it runs.
[[nodiscard]] std::size_t unwind_saved(const void* saved_stack_pointer, std::span<code_address> out,
                                       std::span<const std::byte> stack = {}) noexcept;

// Of the caller, which is the first frame if `skip` is 0. Signal handlers may call it.
[[nodiscard]] std::size_t unwind_here(std::span<code_address> out, std::size_t skip = 0) noexcept;

// Of the code that a signal has interrupted, without the handler: for the handler, with its third
// argument. Any instruction may be interrupted. In Boost's switch only that address is known.
// Under ThreadSanitizer the argument is out of date if the signal came from outside, because TSan
// calls the handler later: then the frames may be wrong.
[[nodiscard]] std::size_t unwind_interrupted(const ucontext_t& interrupted,
                                             std::span<code_address> out) noexcept;

// Of a thread that is in a system call, from its stack pointer and its address there and a copy of
// its stack from that pointer up. The other registers are not known. So the walk ends at a frame
// that is found only by one of them, unless a function further in has saved it. Threads: any.
[[nodiscard]] std::size_t unwind_copy(std::uintptr_t stack_pointer, std::uintptr_t address,
                                      std::span<const std::byte> stack,
                                      std::span<code_address> out) noexcept;

} // namespace creel::detail
