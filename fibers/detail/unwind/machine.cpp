#include <creel/fibers/detail/unwind/machine.hpp>

namespace creel::detail {

#if CREEL_CAN_UNWIND

register_values registers_of(const ucontext_t& interrupted) noexcept {
    constexpr std::array<int, register_count> in_dwarf_order{
        REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
        REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    register_values result;
    for (unsigned i = 0; i < register_count; ++i)
        result.of[i] = static_cast<std::uintptr_t>(
            interrupted.uc_mcontext.gregs[static_cast<std::size_t>(in_dwarf_order[i])]);
    return result;
}

static_assert(trial_value(0) == 0x637265656c000000);

// Its arguments are those of a context's entry function: %rdi is the context that has switched to
// it, %rsi is the trial. The call leaves both as they are, so it switches back.
[[gnu::naked]] void run_register_trial() noexcept {
    asm("movq %rsp, 0(%rsi)\n\t"
        "leaq 1f(%rip), %rax\n\t"
        "movq %rax, 8(%rsi)\n\t"
        "movabsq $0x637265656c000000, %rbx\n\t"
        "leaq 1(%rbx), %rbp\n\t"
        "leaq 2(%rbx), %r12\n\t"
        "leaq 3(%rbx), %r13\n\t"
        "leaq 4(%rbx), %r14\n\t"
        "leaq 5(%rbx), %r15\n\t"
        "callq *16(%rsi)\n"
        "1:\n\t"
        "ud2");
}

#else

register_values registers_of(const ucontext_t&) noexcept {
    return {};
}

void run_register_trial() noexcept {}

#endif

} // namespace creel::detail
