#include <creel/fibers/detail/inspect/fiber_copy.hpp>

#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/unwind/saved_registers.hpp>
#include <creel/fibers/detail/unwind/unwind.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <string>

namespace creel::detail {

namespace {

// What sees_cancel() and a wait of this fiber see.
cancel_request request_seen_by(const fiber_record& f) noexcept {
    return f.scope != nullptr && sees_innermost(f) ? f.scope->request_in_sight() : cancel_request{};
}

// The cancel further out that a shield, or a destructor, keeps from this fiber's waits.
cancel_request request_kept_from(const fiber_record& f) noexcept {
    for (const scope_core* s = f.scope; s != nullptr; s = s->parent)
        if (s->own.level == cancel_level::cancelled)
            return s->own;
    return {};
}

// From the saved stack pointer up. Empty for a fiber that runs.
std::span<const std::byte> used_stack(const fiber_record& f) noexcept {
    const auto* const from = static_cast<const std::byte*>(saved_stack_pointer(*f.context));
    const std::byte* const top = f.stack_bottom + f.stack_bytes;
    return from != nullptr && from <= top ? std::span{from, top} : std::span<const std::byte>{};
}

// Empty if there is no cancel.
std::string text_of_cancel(const cancel_request& seen) {
    if (seen.level == cancel_level::none)
        return {};
    return seen.reason != nullptr && !seen.reason->text.empty() ? seen.reason->text
                                                                : "no reason was given";
}

// How it waits, and for which party.
void copy_wait(fiber_snapshot& to, const waiter& w) {
    const waiter_kind& kind = w.kind();
    kind.describe(w, to.waits_for);
    if (kind.add_details != nullptr)
        kind.add_details(w, to.details);
    if (kind.holder != nullptr && !kind.is_for_end) // a wait for an end names its task
        to.held_by = kind.holder(w);
}

} // namespace

void copy_identity(fiber_snapshot& to, const task_record* t, const fiber_record* f) {
    if (t != nullptr) {
        to.kind = fiber_snapshot::kind_type::task;
        to.who = {t->id, std::string{t->name()}, t->spawned_at};
        to.nursery = t->parent->name;
        to.nursery_opened_at = t->parent->where;
    } else {
        to.kind = f == &f->home->main() ? fiber_snapshot::kind_type::main
                                        : fiber_snapshot::kind_type::native;
        to.who.id = f->id;
    }
}

void copy_fiber(fiber_snapshot& to, const fiber_record& f, time_point now) {
    to.state = &f == &f.home->running() ? fiber_state::running : fiber_state::not_parked;
    if (const waiter* w = f.waiting_on) {
        to.state = fiber_state::parked;
        copy_wait(to, *w);
        to.waited = now - f.parked_since;
    }
    if (const time_point deadline = visible_deadline(f);
        deadline != time_point::max() && deadline != time_point::min())
        to.left = deadline - now;
    cancel_request cancel = request_seen_by(f);
    if (cancel.level == cancel_level::none) {
        cancel = request_kept_from(f);
        to.is_shielded = cancel.level != cancel_level::none;
    }
    to.cancel = text_of_cancel(cancel);
    to.cancel_is_in_effect = !to.is_shielded && cancel.level == cancel_level::cancelled;
    to.stack_bytes = f.stack_bytes;
    to.stack_used_bytes = used_stack(f).size();
}

void copy_frames(fiber_snapshot& to, const fiber_record& f, std::size_t most) {
    std::array<code_address, most_frames_copied> frames{};
    const auto room = std::span{frames}.first(std::min(most, frames.size()));
    // Of main and natives the bounds of the stack are a guess, or not all of it is mapped.
    const bool knows_stack = f.what == fiber_record::fiber_kind::carrier;
    const std::size_t count =
        &f == &f.home->running()
            ? unwind_here(room)
            : unwind_parked(*f.context, room,
                            knows_stack ? used_stack(f) : std::span<const std::byte>{});
    to.frames.assign(frames.begin(), frames.begin() + static_cast<std::ptrdiff_t>(count));
}

} // namespace creel::detail
