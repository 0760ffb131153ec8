// Finds the call frame information of a function: how to restore the registers of its caller. It
// is what exceptions use, so it is part of each program and library (.eh_frame, found by
// .eh_frame_hdr: Linux Standard Base, "Exception Frames").
#pragma once

#include <creel/fibers/detail/unwind/dwarf_reader.hpp>

#include <cstdint>

namespace creel::detail {

struct frame_information {
    std::uintptr_t function = 0; // its first address
    dwarf_reader common;         // instructions that hold for many functions,
    dwarf_reader own;            // and those of this one
    std::uint64_t code_factor = 0;
    std::int64_t data_factor = 0;
    std::uint64_t address_register = 0; // the "return address register"
    bool of_signal = false;             // its caller was interrupted by a signal, and did not call
};

// Returns false if there is none. Takes no lock, allocates nothing and reads only mapped tables, so
// it may run in a signal handler.
[[nodiscard]] bool find_frame_information(std::uintptr_t address,
                                          frame_information& result) noexcept;

} // namespace creel::detail
