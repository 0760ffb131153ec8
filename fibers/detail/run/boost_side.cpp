// Boost's side of a scheduler: its native fibers and its dispatcher, and what Boost asks of an
// algorithm. What of it switches contexts is in switch.cpp.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/system/valgrind.hpp>

#include <boost/fiber/scheduler.hpp>

#include <typeinfo>

namespace creel::detail {

namespace {

using boost::fibers::context;

// Natives and the dispatcher: Boost puts the context object at the top of its own stack. ASan
// needs the bounds only to unpoison when an exception is thrown, and valgrind to tell one stack
// from another, so a page too much does no harm.
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

// The current context is left by one of Boost's own ways.
void scheduler::note_departure(fiber_record& from) noexcept {
    const context& c = *from.context;
    if (c.sleep_is_linked())
        call_dispatcher(); // a new sleeper: the dispatcher must learn its time
    // terminate() has unlinked it from the workers: it is dead, and the dispatcher must release it.
    if (c.is_context(boost::fibers::type::worker_context) && !c.worker_is_linked()) {
        call_dispatcher();
        if (from.what == fiber_record::fiber_kind::native)
            natives_.ended(from.context);
    }
}

// Must never block, and from any context but the dispatcher never be null: Boost calls it holding
// spinlocks. Waiting is the dispatcher's part, in suspend_until.
fiber_record* scheduler::pick_next_record() noexcept {
    if (current_->what == fiber_record::fiber_kind::dispatcher) {
        // The first answer of a pass is null: Boost then calls suspend_until, the only way to learn
        // when its next sleeper is due.
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
    if (pace_.pass_switch() && !dispatcher_due_) // a poll that is due is the dispatcher's part too
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
    dispatcher_due_ = false; // else it would be chosen again and again
    natives_.forget_ended();
    if (incoming_.answer_bell())
        return; // the dispatcher takes them in at once
    if (anything_ready())
        poll_round();
    else
        idle_round();
}

} // namespace creel::detail
