#include <creel/fibers/detail/system/futex.hpp>

#include <ctime>
#include <limits>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel::detail {

namespace {

void wake(const std::atomic<std::uint32_t>& word, int most) noexcept {
    syscall(SYS_futex, reinterpret_cast<const std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, most,
            nullptr, nullptr, 0);
}

} // namespace

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value,
                time_point deadline) noexcept {
    timespec at{};
    if (deadline != time_point::max()) {
        const auto since = deadline.time_since_epoch();
        const auto whole = std::chrono::floor<std::chrono::seconds>(since);
        at.tv_sec = static_cast<std::time_t>(whole.count());
        at.tv_nsec = static_cast<long>((since - whole).count());
    }
    // FUTEX_WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC, which is the steady clock.
    syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_BITSET_PRIVATE, value,
            deadline == time_point::max() ? nullptr : &at, nullptr, FUTEX_BITSET_MATCH_ANY);
}

void futex_wake_one(const std::atomic<std::uint32_t>& word) noexcept {
    wake(word, 1);
}

void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept {
    wake(word, std::numeric_limits<int>::max());
}

} // namespace creel::detail
