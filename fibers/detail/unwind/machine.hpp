// The registers of a processor, as DWARF numbers them, and how to read them. To unwind on another
// processor, add its part here and in machine.cpp. aarch64 has none yet: it signs return addresses,
// and no machine was there to test it.
#pragma once

#include <array>
#include <cstdint>

#include <dlfcn.h>
#include <elf.h>
#include <ucontext.h>

// 1 if creel can unwind stacks here: x86-64 with a C library that finds the unwind tables of an
// address without a lock (glibc 2.35).
#if defined(__x86_64__) && defined(__LP64__) && defined(DLFO_EH_SEGMENT_TYPE)
#define CREEL_CAN_UNWIND 1
#else
#define CREEL_CAN_UNWIND 0
#endif

namespace creel::detail {

#if CREEL_CAN_UNWIND

// The System V ABI for x86-64, figure 3.36.
inline constexpr unsigned machine_number = EM_X86_64;
inline constexpr unsigned register_count = 17;
inline constexpr unsigned stack_pointer_register = 7;
inline constexpr unsigned address_register = 16; // where the code goes on
inline constexpr std::array<unsigned, 6> kept_registers{3, 6, 12, 13, 14, 15}; // by each call

#else

inline constexpr unsigned machine_number = EM_NONE;
inline constexpr unsigned register_count = 2;
inline constexpr unsigned stack_pointer_register = 0;
inline constexpr unsigned address_register = 1;
inline constexpr std::array<unsigned, 0> kept_registers{};

#endif

struct register_values {
    std::array<std::uintptr_t, register_count> of{};

    [[nodiscard]] std::uintptr_t address() const noexcept { return of[address_register]; }
    [[nodiscard]] std::uintptr_t stack_pointer() const noexcept {
        return of[stack_pointer_register];
    }
};

// Those of the code that a signal has interrupted.
[[nodiscard]] register_values registers_of(const ucontext_t& interrupted) noexcept;

// The context of a trial: see saved_registers.cpp.
struct register_trial {
    std::uintptr_t stack_pointer; // set by the trial: when its jump has returned,
    std::uintptr_t address;       // and where it goes on then
    void* jump;                   // jump_fcontext
};

// In the trial the register at index i of kept_registers has this value.
[[nodiscard]] constexpr std::uintptr_t trial_value(std::size_t i) noexcept {
    return 0x63726565'6c000000u + i;
}

// The entry function of the context, which has the address of a register_trial as its argument. It
// sets the registers and jumps back. It must not be resumed.
void run_register_trial() noexcept;

// Notes those of the function that calls it, as they are at one instruction of that function. It is
// inlined always, so it needs a caller that is not instrumented, as it is.
[[gnu::always_inline]] inline void note_registers(register_values& values) noexcept {
#if CREEL_CAN_UNWIND
    asm volatile("movq %%rbx, 24(%0)\n\t"
                 "movq %%rbp, 48(%0)\n\t"
                 "movq %%rsp, 56(%0)\n\t"
                 "movq %%r12, 96(%0)\n\t"
                 "movq %%r13, 104(%0)\n\t"
                 "movq %%r14, 112(%0)\n\t"
                 "movq %%r15, 120(%0)\n\t"
                 "leaq (%%rip), %%rax\n\t"
                 "movq %%rax, 128(%0)"
                 :
                 : "r"(&values)
                 : "rax", "memory");
#else
    static_cast<void>(values);
#endif
}

} // namespace creel::detail
