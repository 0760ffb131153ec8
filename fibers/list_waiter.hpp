// A blocking call waits with a list_waiter: a waiter that is its own node in a list.
// <creel/fibers/wait_list.hpp> shows how it is used.
#pragma once

#include <creel/fibers/wait_node.hpp>

#include <optional>

namespace creel {

class list_waiter;
class wake_batch;

// One static table per kind of wait on a list.
struct wait_kind : waiter_kind {
    // Called when a waiter has withdrawn and is off its list, with the lock still held. The waiters
    // behind it may be able to go now (behind a large request to a semaphore): the function may
    // take waiters into `to_wake`. Null: nothing to do.
    using left_function = void (*)(list_waiter& who, wait_list& from, wake_batch& to_wake) noexcept;

    constexpr explicit wait_kind(bool is_cancellable = true, left_function when_left = nullptr,
                                 holder_function who_holds = nullptr,
                                 text_function details = nullptr) noexcept;

    left_function left;
};

// Derive from it to hand something to the waiter: a waker writes it under the lock before the wake.
class list_waiter : public waiter, public wait_node {
public:
    explicit list_waiter(const wait_kind& kind) noexcept
        : waiter(kind), wait_node(static_cast<waiter&>(*this), nullptr) {}

    // Parks until woken. Anything handed over is then in this object.
    // Parks: yes. Cancel: if the kind says so; the waiter is off the list then.
    // Threads: any. Throws: cancelled. Cost: one switch, no allocation.
    void wait() {
        if (park(*this) == wake_reason::cancelled) [[unlikely]]
            throw_cancelled();
    }

    // The same with a timer of its own: false if the timer was first. Throws: also std::bad_alloc,
    // and the waiter is off the list then; see park_until.
    [[nodiscard]] bool wait_until(saturating_time_point deadline, saturating_duration span = {}) {
        const wake_reason reason = park_until(*this, deadline, span);
        if (reason == wake_reason::cancelled) [[unlikely]]
            throw_cancelled();
        return reason == wake_reason::signalled;
    }

private:
    friend struct wait_kind;
    static withdrawal withdraw(waiter& w, wake_reason why) noexcept;
    static void describe(const waiter& w, std::string& text);
};

constexpr wait_kind::wait_kind(bool is_cancellable, left_function when_left,
                               holder_function who_holds, text_function details) noexcept
    : waiter_kind{&list_waiter::withdraw,
                  &list_waiter::describe,
                  is_cancellable,
                  true,
                  who_holds,
                  details,
                  false,
                  true},
      left(when_left) {}

// The kind for waits on which no other wait depends.
inline constexpr wait_kind plain_wait{};

// Tells one cancel scope from another; it is only compared.
using scope_id = const void*;

// The id of the innermost scope that the caller is in; null for none. Threads: any.
[[nodiscard]] scope_id this_scope() noexcept;

// For debug mode, before a wait that only `by` can end. Writes a line and the remedy to stderr if
// `by` is a fiber above the caller that cannot go on before the caller has ended. There are two
// such cases: the fiber waits for its children now; or in the scope `within` it began what the
// caller waits for, and it has since opened the nursery between the two. The line is also written
// if the caller is a blocking call of `by`.
// Threads: any. Cost: two loads outside debug mode.
void warn_if_ancestor_waits(const wait_label& what, party_number by, std::optional<scope_id> within,
                            const char* remedy) noexcept;

} // namespace creel
