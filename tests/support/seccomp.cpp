#include "support/seccomp.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel::test {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t native_architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t native_architecture = AUDIT_ARCH_AARCH64;
#else
#error "the seccomp filter knows x86_64 and aarch64 only"
#endif

// x32 calls have the architecture of x86_64 and this bit in their number.
constexpr std::uint32_t first_foreign_call = 0x40000000;

sock_filter statement(int code, std::uint32_t operand) noexcept {
    return {static_cast<std::uint16_t>(code), 0, 0, operand};
}

// Skips the first number of instructions if the comparison holds, the second number if not.
sock_filter jump(int code, std::uint32_t operand, int if_true, int if_false) noexcept {
    return {static_cast<std::uint16_t>(code), static_cast<std::uint8_t>(if_true),
            static_cast<std::uint8_t>(if_false), operand};
}

std::uint32_t verdict(int error_number) {
    constexpr int max_errno = 4095; // the kernel cuts larger values to this: seccomp(2)
    if (error_number < 0 || error_number > max_errno)
        throw std::invalid_argument("not an errno: " + std::to_string(error_number));
    return error_number == 0 ? SECCOMP_RET_ALLOW
                             : SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error_number);
}

} // namespace

void refuse(const refused_calls& calls) {
    constexpr int load = BPF_LD | BPF_W | BPF_ABS;
    constexpr int equal = BPF_JMP | BPF_JEQ | BPF_K;
    constexpr int at_least = BPF_JMP | BPF_JGE | BPF_K;
    constexpr int give = BPF_RET | BPF_K;
    // On another architecture the numbers mean other calls, so a call of one ends the process.
    std::array program{
        statement(load, offsetof(seccomp_data, arch)),
        jump(equal, native_architecture, 1, 0),
        statement(give, SECCOMP_RET_KILL_PROCESS),
        statement(load, offsetof(seccomp_data, nr)),
        jump(at_least, first_foreign_call, 0, 1),
        statement(give, SECCOMP_RET_KILL_PROCESS),
        jump(equal, SYS_io_uring_setup, 0, 1),
        statement(give, verdict(calls.io_uring_setup)),
        jump(equal, SYS_io_uring_enter, 0, 1),
        statement(give, verdict(calls.io_uring_enter)),
        jump(equal, SYS_io_uring_register, 0, 1),
        statement(give, verdict(calls.io_uring_register)),
        statement(give, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        throw std::system_error(errno, std::generic_category(), "prctl(PR_SET_NO_NEW_PRIVS)");
    // With TSYNC a positive result is a thread that could not get the filter.
    const long result =
        ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
    if (result != 0)
        throw std::system_error(result < 0 ? errno : ESRCH, std::generic_category(), "seccomp");
}

} // namespace creel::test
