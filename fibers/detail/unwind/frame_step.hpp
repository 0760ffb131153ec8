// One step of a walk up a stack: from the registers of a function to those of its caller, by the
// function's call frame information (DWARF 5, 6.4).
#pragma once

#include <creel/fibers/detail/unwind/frame_table.hpp>
#include <creel/fibers/detail/unwind/machine.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace creel::detail {

// Reads words of this process at any address.
class checked_memory {
public:
    // What is known to be readable need not be checked.
    explicit checked_memory(std::span<const std::byte> readable) noexcept
        : readable_(readable), begin_(reinterpret_cast<std::uintptr_t>(readable.data())) {}
    // Reads nothing but this copy of what lies at `begin`: for a stack that its thread may leave.
    checked_memory(std::span<const std::byte> copy, std::uintptr_t begin) noexcept
        : readable_(copy), begin_(begin), is_copy_(true) {}

    // Returns false if the word is not readable or not aligned. Cost: unless it is
    // known to be readable, a system call when it lies in another page than the word before.
    [[nodiscard]] bool read(std::uintptr_t address, std::uintptr_t& word) noexcept;

private:
    std::span<const std::byte> readable_;
    std::uintptr_t begin_; // of what is in it
    bool is_copy_ = false;
    std::uintptr_t page_ = 0; // that was read last
};

// Sets the registers to those of the caller. Returns false if there is no caller, or if the
// information is of a kind that compilers do not write. `inside` is an address in the instruction
// that the function executes: one less than its return address, if it has called.
[[nodiscard]] bool step_to_caller(const frame_information& function, std::uintptr_t inside,
                                  register_values& registers, checked_memory& memory) noexcept;

} // namespace creel::detail
