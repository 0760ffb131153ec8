// For a loop that polls memory which another core will write: between two reads it leaves the core
// to the other hardware thread, and saves power.
#pragma once

namespace creel::detail {

inline void relax_core() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" : : : "memory"); // `yield` is a no-op on most cores
#elif defined(__arm__)
    asm volatile("yield" : : : "memory");
#elif defined(__powerpc64__)
    asm volatile("or 27,27,27" : : : "memory");
#elif defined(__riscv)
    asm volatile(".insn i 0x0F, 0, x0, x0, 0x010" : : : "memory"); // pause; a hint to older ones
#else
    asm volatile("" : : : "memory");
#endif
}

} // namespace creel::detail
