// The expressions of call frame information (DWARF 5, 2.5): those of functions that realign their
// stack, of the linker's stubs, and of the code to which a signal handler returns.
#pragma once

#include <creel/fibers/detail/unwind/dwarf_reader.hpp>
#include <creel/fibers/detail/unwind/frame_step.hpp>

namespace creel::detail {

// Returns false if it cannot be evaluated. `first`, if there is one, lies on the stack of the
// expression when it begins.
[[nodiscard]] bool evaluate(dwarf_reader expression, const std::uintptr_t* first,
                            const register_values& registers, checked_memory& memory,
                            std::uintptr_t& result) noexcept;

} // namespace creel::detail
