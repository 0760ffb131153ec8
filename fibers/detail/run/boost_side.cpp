// Boost's side of a scheduler: its native fibers, its dispatcher, and the functions that Boost
// calls of an algorithm. Those that switch contexts are in switch.cpp.
//
// The states of the dispatcher, and the function that makes each transition:
//
//   held ---- 1 pick_next_record(), loop_until_switch(), rest() --> running  or pick_next() itself
//   running - 2 pick_next_record(): null, first in a pass --------> asks     suspend_until() comes
//   asks ---- 3 suspend_until() polls or waits -------------------> running  with Boost's wakes
//   running - 4 pick_next_record(): the next fiber; awakened() ---> held
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/system/valgrind.hpp>

#include <boost/fiber/scheduler.hpp>

#include <typeinfo>

namespace creel::detail {

namespace {

using boost::fibers::context;

// For natives and the dispatcher: Boost puts the context object at the top of its own stack. ASan
// needs the bounds only to unpoison when an exception is thrown, and valgrind needs them to tell
// one stack from another. So a page too much does no harm.
void guess_context_stack(fiber_record& f) {
    constexpr std::uintptr_t page = 4096;
    const auto top = (reinterpret_cast<std::uintptr_t>(f.context) + 2 * page) & ~(page - 1);
    f.stack_bytes = 128 * 1024;
    f.stack_bottom = reinterpret_cast<std::byte*>(top - f.stack_bytes); // NOLINT
    if (under_valgrind()) [[unlikely]] {
        const std::uintptr_t number =
            valgrind_add_stack(f.stack_bottom, f.stack_bottom + f.stack_bytes);
        f.sanitizer_state = reinterpret_cast<void*>(number + 1); // NOLINT
    }
}

} // namespace

fiber_record& scheduler::record_of(context* c) noexcept {
    if (c == main_->context)
        return *main_;
    if (c->is_context(boost::fibers::type::dispatcher_context)) {
        if (dispatcher_->context == nullptr) {
            dispatcher_->context = c;
            guess_context_stack(*dispatcher_);
        }
        return *dispatcher_;
    }
    boost::fibers::fiber_properties* p = c->get_properties();
    if (p != nullptr && typeid(*p) == typeid(fiber_record))
        return static_cast<fiber_record&>(*p);
    return natives_.record_of(c, [this](fiber_record& f) {
        f.home = this;
        f.id = tasks_.take_number();
        guess_context_stack(f);
    });
}

// Boost leaves the current context in one of its own ways.
void scheduler::note_departure(fiber_record& from) noexcept {
    const context& c = *from.context;
    if (c.sleep_is_linked())
        call_dispatcher(); // a new sleeper: the dispatcher must learn its time
    // terminate() has unlinked it from the workers: it has ended, and the dispatcher must release
    // it.
    if (c.is_context(boost::fibers::type::worker_context) && !c.worker_is_linked()) {
        call_dispatcher();
        if (from.what == fiber_record::fiber_kind::native) {
            if (recorder_) [[unlikely]]
                recorder_->ends(from);
            natives_.ended(from.context);
        }
    }
}

// It never blocks, and for any context but the dispatcher it is never null, because Boost calls it
// while it holds spinlocks. Only the dispatcher waits, in suspend_until.
fiber_record* scheduler::pick_next_record() noexcept {
    if (current_->what == fiber_record::fiber_kind::dispatcher) {
        // The first answer of a pass is null. Boost then calls suspend_until, which is the only way
        // to learn when its next sleeper is due.
        if (!pass_polled_) {
            pass_polled_ = true;
            return nullptr;
        }
        fiber_record* next = next_fiber();
        if (next != nullptr)
            pass_polled_ = false;
        return next;
    }
    note_departure(*current_);
    const bool no_look_is_due = pace_.pass_switch() || (recorder_ && pace_.pass_held_back());
    if (no_look_is_due && !dispatcher_due_) // a poll that is due is the dispatcher's part too
        if (fiber_record* next = next_fiber())
            return next;
    dispatcher_held_ = false;
    return &*dispatcher_;
}

bool scheduler::has_ready_fibers() const noexcept {
    return !ready_.empty() || dispatcher_held_;
}

void scheduler::suspend_until(const std::chrono::steady_clock::time_point& deadline) noexcept {
    boost_deadline_ = deadline;
    dispatcher_due_ = false; // else the dispatcher would be chosen again and again
    natives_.forget_ended();
    if (search_is_due_) [[unlikely]]
        search_for_deadlock();
    if (stuck_is_due_) [[unlikely]]
        ask_if_stuck();
    if (requests_ != nullptr) [[unlikely]]
        work_on_request();
    if (incoming_.answer_bell()) {
        if (requests_ != nullptr) [[unlikely]]
            call_dispatcher();
        return; // the dispatcher takes Boost's wakes in at once
    }
    if (anything_ready() || requests_ != nullptr)
        poll_round();
    else
        idle_round();
}

} // namespace creel::detail
