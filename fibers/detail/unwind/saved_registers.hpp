// Where Boost.Context saves the registers of a suspended context. This is no part of Boost's
// interface and differs between its versions, so creel looks at a context of its own.
//
// A debugger finds the answer by the name creel_saved_registers, also in a core. The layout of the
// struct changes only with its version.
#pragma once

#include <cstdint>

namespace boost::fibers {
class context;
}

namespace creel::detail {

// All offsets are in bytes; those of registers count from the saved stack pointer.
struct saved_registers {
    static constexpr std::uint32_t this_version = 1;
    static constexpr std::uint32_t most = 24;

    struct place {
        std::uint32_t number; // of the register, in DWARF
        std::int32_t offset;
    };

    std::uint32_t version;
    std::uint32_t known;         // 1, or 0: not known here, or not yet learnt
    std::uint32_t machine;       // e_machine of ELF
    std::int32_t fiber_offset;   // of boost::context::fiber in boost::fibers::context,
    std::int32_t pointer_offset; // and of the saved stack pointer in that
    std::int32_t address;        // where the address lies at which the context goes on
    std::int32_t frame_bytes;    // what to add for the value of the stack pointer then
    std::uint32_t count;         // of the registers that each call keeps
    place registers[most];
};

// Learns it at the first call, by a trial. The trial blocks all signals for some microseconds.
// Threads: any; not from a signal handler. Cost: a load and a branch after the first call.
[[nodiscard]] const saved_registers& learn_saved_registers() noexcept;

// Null if the context runs, or if Boost's contexts are not its own (ucontext_t).
[[nodiscard]] const void* saved_stack_pointer(const boost::fibers::context& c) noexcept;

} // namespace creel::detail

extern "C" creel::detail::saved_registers creel_saved_registers;
