#include <creel/fibers/wait_list.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>
#include <sched.h>

namespace creel {

std::string wait_lock::name() const {
    return std::string{what_} + " made at " + made_at_.file_name() + ':' +
           std::to_string(made_at_.line());
}

std::string wait_lock::says(const char* text) const {
    return name() + ": " + text;
}

// The holder runs for some instructions, unless the kernel has taken its core away: then let it
// have ours. Reads until it looks free, so that the waiting cores do not fight for the line.
void wait_lock::lock_slowly() noexcept {
    constexpr int spins_before_yield = 100;
    int spins = 0;
    do {
        while (locked_.load(std::memory_order_relaxed)) {
            if (++spins < spins_before_yield) {
                __builtin_ia32_pause();
            } else {
                sched_yield();
                spins = 0;
            }
        }
    } while (locked_.exchange(true, std::memory_order_acquire));
}

// The next one is read first: a woken waiter may be gone at once.
void wake_batch::wake_all() noexcept {
    wait_node* next = first_;
    first_ = nullptr;
    last_ = &first_;
    while (next != nullptr) {
        waiter& who = next->who();
        next = next->next_;
        wake(who);
    }
}

std::size_t wait_list::requeue(wait_list& to, std::size_t most) noexcept {
    std::size_t moved = 0;
    while (moved < most && first_ != nullptr) {
        wait_node& node = *first_;
        // Not through erase(): its list must never read as null on the way, which would tell a
        // withdrawal that somebody has taken it.
        unlink_front();
        to.push_back(node);
        ++moved;
    }
    return moved;
}

void wait_list::destroyed_while_waited_on() const noexcept {
    const std::string text =
        guard_->says("destroyed while somebody waits on it; end those who wait first");
    detail::assertion_failed("nobody waits", text.c_str(), std::source_location::current());
}

// On the waiter's own thread. The list may change under our eyes (requeue), but only to another
// list or to none: once taken, nobody links the waiter again.
withdrawal list_waiter::withdraw(waiter& w, wake_reason) noexcept {
    auto& self = static_cast<list_waiter&>(w);
    wake_batch woken;
    while (wait_list* from = self.list()) {
        const std::lock_guard hold{from->guard()};
        if (self.list() != from)
            continue;
        from->erase(self);
        if (const auto left = static_cast<const wait_kind&>(self.kind()).left; left != nullptr)
            left(self, *from, woken);
        return withdrawal::withdrawn;
    }
    return withdrawal::pending;
}

void list_waiter::describe(const waiter& w, std::string& text) {
    const wait_list* in = static_cast<const list_waiter&>(w).list();
    text += in != nullptr ? in->guard().name() : "its turn, which has come";
}

} // namespace creel
