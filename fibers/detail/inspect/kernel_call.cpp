#include <creel/fibers/detail/inspect/kernel_call.hpp>

#include <creel/fibers/detail/system/own_memory.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel::detail {

namespace {

// Takes the next number from the text, also "0x1f"; false if there is none.
template <typename T>
bool take_number(std::string_view& text, T& number) noexcept {
    while (text.starts_with(' '))
        text.remove_prefix(1);
    int base = 10;
    if (text.starts_with("0x")) {
        text.remove_prefix(2);
        base = 16;
    }
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
    if (error != std::errc{})
        return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
}

// The kernel goes on with a sleep, a poll and the like that was disturbed, as by a completion of
// io_uring, in restart_syscall(2). The registers are still those of the original call, and its
// number stands in the instruction before: `mov $number, %eax; syscall`.
long number_of_restarted([[maybe_unused]] std::uintptr_t address) noexcept {
#if defined(__x86_64__)
    constexpr std::uint8_t move_to_eax = 0xb8;
    std::array<std::uint8_t, 7> code{};
    std::int32_t number = 0;
    if (copy_memory(reinterpret_cast<const void*>(address - code.size()), // NOLINT
                    std::as_writable_bytes(std::span{code})) &&
        code[0] == move_to_eax) {
        std::memcpy(&number, &code[1], sizeof number);
        return number;
    }
#endif
    return SYS_restart_syscall;
}

} // namespace

std::string_view read_thread_file(int thread_id, const char* name, std::span<char> room) noexcept {
    std::array<char, 64> path{};
    std::snprintf(path.data(), path.size(), "/proc/self/task/%d/%s", thread_id, name);
    const int file = ::open(path.data(), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return {};
    ssize_t bytes = 0;
    do
        bytes = ::read(file, room.data(), room.size());
    while (bytes < 0 && errno == EINTR);
    ::close(file);
    return {room.data(), static_cast<std::size_t>(std::max<ssize_t>(bytes, 0))};
}

// "running", "-1 sp address", or "number six-arguments sp address": proc_pid_syscall(5).
std::optional<kernel_call> kernel_call_of(int thread_id) noexcept {
    std::array<char, 256> room{};
    std::string_view text = read_thread_file(thread_id, "syscall", room);
    kernel_call call;
    if (!take_number(text, call.number))
        return std::nullopt;
    if (call.number >= 0)
        for (std::uintptr_t& argument : call.arguments)
            if (!take_number(text, argument))
                return std::nullopt;
    if (!take_number(text, call.stack_pointer) || !take_number(text, call.address))
        return std::nullopt;
    if (call.number == SYS_restart_syscall)
        call.number = number_of_restarted(call.address);
    return call;
}

// A wait for a futex without a timeout: of std::mutex, std::condition_variable and the like.
bool goes_on_after_signals(const kernel_call& call) noexcept {
    if (call.number != SYS_futex)
        return false;
    const auto operation = static_cast<int>(call.arguments[1]) & FUTEX_CMD_MASK;
    const bool has_timeout = call.arguments[3] != 0;
    return !has_timeout && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET ||
                            operation == FUTEX_LOCK_PI);
}

// The clock of another thread, as pthread_getcpuclockid(3) makes it of a pthread_t. The numbers in
// /proc are older by up to a tick.
processor_time processor_time_of(int thread_id) noexcept {
    constexpr unsigned of_thread_by_scheduler = 4 | 2;
    const auto clock_of_thread =
        static_cast<clockid_t>(~static_cast<unsigned>(thread_id) << 3 | of_thread_by_scheduler);
    timespec had{};
    const bool is_known = ::clock_gettime(clock_of_thread, &had) == 0;
    return {is_known
                ? duration{std::chrono::seconds{had.tv_sec}} + std::chrono::nanoseconds{had.tv_nsec}
                : duration{-1},
            clock::now()};
}

// The name before it is in brackets, and may contain others.
char state_of_thread(int thread_id) noexcept {
    std::array<char, 256> room{};
    const std::string_view text = read_thread_file(thread_id, "stat", room);
    const std::size_t end_of_name = text.rfind(") ");
    return end_of_name != text.npos && end_of_name + 2 < text.size() ? text[end_of_name + 2] : '\0';
}

bool is_traced(int thread_id) noexcept {
    constexpr std::string_view key = "TracerPid:\t";
    std::array<char, 2048> room{};
    const std::string_view text = read_thread_file(thread_id, "status", room);
    const std::size_t at = text.find(key);
    return at != text.npos && text.substr(at + key.size(), 2) != "0\n";
}

} // namespace creel::detail
