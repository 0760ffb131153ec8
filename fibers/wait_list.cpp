#include <creel/fibers/wait_list.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/audit.hpp>

#include <mutex>
#include <new>

#include <sched.h>

namespace creel {

std::string wait_label::text() const {
    return std::string{what} + " made at " + made_at.file_name() + ':' +
           std::to_string(made_at.line());
}

std::string wait_lock::says(const char* text) const noexcept {
    try {
        return name() + ": " + text;
    } catch (const std::bad_alloc&) {
        detail::assertion_failed(label_.what, text, label_.made_at);
    }
}

namespace {

// Waits for somebody who needs some instructions more, unless the kernel has taken its core away:
// then lets it have ours.
class spin {
public:
    void operator()() noexcept {
        constexpr int before_yield = 100;
        if (++turns_ < before_yield) {
            __builtin_ia32_pause();
        } else {
            sched_yield();
            turns_ = 0;
        }
    }

private:
    int turns_ = 0;
};

} // namespace

// Reads until it looks free, so that the waiting cores do not fight for the line.
void wait_lock::lock_slowly() noexcept {
    spin wait;
    do {
        while (locked_.load(std::memory_order_relaxed))
            wait();
    } while (locked_.exchange(true, std::memory_order_acquire));
}

// How a withdrawal finds the lock of a list that others may end. The waiter marks the place it has
// read as held; that succeeds only while it is linked, so the list is there. Who takes the node off
// in spite of it puts its departure into the place, and keeps the lock until the waiter has seen
// that. So the waiter must not wait for the lock, but tries it and looks at its place in turn; once
// it has the lock nobody is taking it off, and the mark may go.
wait_list* wait_node::lock_list() noexcept {
    while (wait_list* in = hold_list()) {
        spin wait;
        do {
            if (in->guard().try_lock()) {
                list_.store(place_in(in), std::memory_order_relaxed);
                return in;
            }
            wait();
        } while (list_.load(std::memory_order_relaxed) == (place_in(in) | held));
        release_list(in);
    }
    return nullptr;
}

// Acquires also where it reads null: the thread that took the node off has let go of it, and of the
// claim, which may end now.
wait_list* wait_node::hold_list() const noexcept {
    place seen = list_.load(std::memory_order_acquire);
    while (seen != 0 &&
           !list_.compare_exchange_weak(seen, seen | held, std::memory_order_acquire)) {
    }
    return list_of(seen);
}

void wait_node::release_list(wait_list* held_one) const noexcept {
    place seen = place_in(held_one) | held;
    if (list_.compare_exchange_strong(seen, place_in(held_one), std::memory_order_release,
                                      std::memory_order_acquire))
        return;
    auto& off = *reinterpret_cast<departure*>(seen & ~left);
    list_.store(place_in(off.to), std::memory_order_relaxed); // who took it off writes no more
    off.seen.store(true, std::memory_order_release);
}

void wait_node::leave_for(wait_list* to) noexcept {
    departure off{to};
    place seen = list_.load(std::memory_order_relaxed);
    bool is_held = false;
    do {
        is_held = (seen & held) != 0;
    } while (!list_.compare_exchange_weak(
        seen, is_held ? reinterpret_cast<place>(&off) | left : place_in(to),
        std::memory_order_acq_rel, std::memory_order_relaxed));
    spin wait;
    while (is_held && !off.seen.load(std::memory_order_acquire))
        wait();
}

void wait_node::describe_list(std::string& text) const {
    if (wait_list* in = hold_list()) {
        const wait_label label = in->guard().label();
        release_list(in);
        text += label.text();
    } else {
        text += "its turn, which has come";
    }
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

bool wait_list::take_unlinked(wait_node& node) noexcept {
    const bool is_taken = node.claim_ == nullptr || node.claim_->try_claim(&node);
    node.leave_for(nullptr); // last: else its waiter may end it at once
    return is_taken;
}

wait_node* wait_list::take_front_slowly() noexcept {
    while (wait_node* taken = first_) {
        unlink_front();
        if (take_unlinked(*taken))
            return taken;
    }
    return nullptr;
}

std::size_t wait_list::requeue(wait_list& to, std::size_t most) noexcept {
    std::size_t moved = 0;
    while (moved < most && first_ != nullptr) {
        wait_node& node = *first_;
        unlink_front();
        to.link(node);
        // In one step: its list must never read as null on the way, which would tell a withdrawal
        // that somebody has taken it.
        node.leave_for(&to);
        ++moved;
    }
    return moved;
}

void wait_list::destroyed_while_waited_on() const noexcept {
    std::string text = "destroyed while somebody waits on it"; // and as much more as can be said
    try {
        text += ", " + detail::name_of_waiting(first_->who()) +
                ": declare it outside with_nursery, or join() the nursery before it goes";
    } catch (const std::bad_alloc&) {
    }
    text = guard_->says(text.c_str());
    detail::assertion_failed("nobody waits", text.c_str(), std::source_location::current());
}

// Whoever took it off its list hands it something: its wake is on the way.
withdrawal list_waiter::withdraw(waiter& w, wake_reason) noexcept {
    auto& self = static_cast<list_waiter&>(w);
    wake_batch woken;
    wait_list* from = self.lock_list();
    if (from == nullptr)
        return withdrawal::pending;
    const std::lock_guard hold{from->guard(), std::adopt_lock};
    from->erase(self);
    if (const auto left = static_cast<const wait_kind&>(self.kind()).left; left != nullptr)
        left(self, *from, woken);
    return withdrawal::withdrawn;
}

void list_waiter::describe(const waiter& w, std::string& text) {
    static_cast<const list_waiter&>(w).describe_list(text);
}

} // namespace creel
