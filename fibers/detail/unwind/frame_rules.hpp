// What the call frame information of a function says for one of its instructions (DWARF 5, 6.4.2).
#pragma once

#include <creel/fibers/detail/unwind/frame_table.hpp>
#include <creel/fibers/detail/unwind/machine.hpp>

#include <array>
#include <cstdint>

namespace creel::detail {

// How to find a register of the caller.
struct register_rule {
    enum class kind : std::uint8_t {
        same,
        undefined,
        saved_at,      // at an offset from the canonical frame address (CFA)
        is_offset,     // it is the CFA plus an offset
        is_register,   // it is in another register
        saved_at_that, // where an expression says
        is_that,       // what an expression says
    };
    kind how = kind::same;
    std::int64_t value = 0; // the offset, the register, or the address of the expression
};

struct frame_rules {
    std::array<register_rule, register_count> of{};
    std::uint64_t frame_register = stack_pointer_register; // the CFA is this register
    std::int64_t frame_offset = 0;                         // plus this,
    const std::uint8_t* frame_expression = nullptr;        // unless there is an expression
};

// Executes the instructions for an address in the function. Returns false if there is one that
// compilers do not write.
[[nodiscard]] bool read_rules(const frame_information& function, std::uintptr_t inside,
                              frame_rules& result) noexcept;

} // namespace creel::detail
