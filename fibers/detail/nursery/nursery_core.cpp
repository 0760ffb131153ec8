#include <creel/fibers/detail/nursery/nursery_core.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/inspect/snapshot.hpp>
#include <creel/fibers/detail/nursery/remote_entry.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/task/task_result.hpp>
#include <creel/fibers/local.hpp>

#include <new>
#include <string>
#include <utility>

namespace creel::detail {

namespace {

constexpr const char* has_ended =
    "the nursery has ended: its body, its children and what they wait for may spawn, and what "
    "lives longer through a handle, auto r = nursery.remote()";

// Names both threads.
[[noreturn]] void used_elsewhere(const nursery_core& n, const char* call,
                                 const std::source_location& from) noexcept {
    run_snapshot owner;
    n.opener->home->live.copy_to(owner);
    try {
        const std::string text = "the nursery opened at " + to_text(n.where) +
                                 " belongs to thread " + std::to_string(owner.thread_id) +
                                 ", and a nursery is used on its own thread only: from another one "
                                 "spawn through a handle, auto r = nursery.remote()";
        assertion_failed(call, text.c_str(), from);
    } catch (const std::bad_alloc&) {
        assertion_failed(call, "a nursery is used on its own thread only", from);
    }
}

// The wait for the last child. It is never withdrawn: children are cancelled, not abandoned.
struct join_waiter : waiter {
    static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
    static void describe(const waiter& w, std::string& text) {
        const nursery_core& core = *static_cast<const join_waiter&>(w).core;
        text +=
            core.children == 1 ? "its child" : "its " + std::to_string(core.children) + " children";
        if (core.pending_starts != 0)
            text += " and " + std::to_string(core.pending_starts) + " that are starting";
    }
    static constexpr waiter_kind kind{&withdraw, &describe, false, false,
                                      nullptr,   nullptr,   false, true};

    explicit join_waiter(const nursery_core& c) noexcept : waiter(kind), core(&c) {}
    const nursery_core* core;
};

} // namespace

const nursery_core* nursery_awaited_by(const waiter& w) noexcept {
    return &w.kind() == &join_waiter::kind ? static_cast<const join_waiter&>(w).core : nullptr;
}

// The wait of spawn() for a place among max_children. When it is woken, the place is already taken
// for it, so that no later caller gets it first.
struct slot_waiter : waiter {
    static withdrawal withdraw(waiter& w, wake_reason) noexcept {
        auto& self = static_cast<slot_waiter&>(w);
        self.unlink();
        return withdrawal::withdrawn;
    }
    static void describe(const waiter& w, std::string& text) {
        const nursery_core& core = *static_cast<const slot_waiter&>(w).core;
        text += "a place among " + std::to_string(core.max_children) + " children";
    }
    static constexpr waiter_kind kind{&withdraw, &describe, true,  false,
                                      nullptr,   nullptr,   false, true};

    explicit slot_waiter(nursery_core& c) noexcept
        : waiter(kind), core(&c), previous(c.last_in_line) {
        (previous != nullptr ? previous->next : c.first_in_line) = this;
        c.last_in_line = this;
    }
    void unlink() noexcept {
        (previous != nullptr ? previous->next : core->first_in_line) = next;
        (next != nullptr ? next->previous : core->last_in_line) = previous;
    }

    nursery_core* core;
    slot_waiter* previous;
    slot_waiter* next = nullptr;
};

nursery_core::nursery_core(error_policy on_error, std::string_view called, std::size_t most,
                           std::source_location from)
    : opener(&this_parker()),
      max_children(most != 0 ? most : unlimited),
      policy(std::move(on_error)),
      name(called),
      where(from) {
    CREEL_ASSERT(opener->home != nullptr,
                 "a nursery (with_nursery, all, race, map) needs a running scheduler: call it "
                 "inside io::run");
    core_of(scope).nursery = this;
    core_of(scope).enter(duration{});
}

nursery_core::~nursery_core() {
    CREEL_ASSERT(children == 0 && !open, "a nursery was destroyed before it was joined");
}

// ---- places among max_children ------------------------------------------------------------------

bool nursery_core::take_slot() noexcept {
    if (max_children == unlimited)
        return true;
    // relaxed: the number alone counts; what was spawned is handed over under a lock or at home.
    std::size_t taken = slots_taken.load(std::memory_order_relaxed);
    while (taken < max_children)
        if (slots_taken.compare_exchange_weak(taken, taken + 1, std::memory_order_relaxed))
            return true;
    return false;
}

// While a call of spawn is in line no slot is free, so this one does not overtake it.
void nursery_core::wait_for_slot() {
    check_cancel();
    if (take_slot())
        return;
    slot_waiter w{*this};
    if (park(w) == wake_reason::cancelled)
        throw_cancelled();
}

void nursery_core::hand_on_slot() noexcept {
    if (first_in_line == nullptr) {
        slots_taken.fetch_sub(1, std::memory_order_relaxed);
        return;
    }
    slot_waiter& next = *first_in_line;
    next.unlink();
    wake(next);
}

// ---- children -----------------------------------------------------------------------------------

task_result& nursery_core::refused(const std::source_location& from) const noexcept {
    return task_result::refused(core_of(scope).reason_in_sight(), from);
}

task_record* nursery_core::make_task(const spawn_options& options, std::size_t closure_bytes,
                                     std::size_t closure_align, std::source_location from) {
    if (scheduler::current() != opener->home) [[unlikely]]
        used_elsewhere(*this, "spawn", from);
    if (!open) [[unlikely]]
        assertion_failed("spawn", has_ended, from);
    if (cancelled_for_children()) [[unlikely]] {
        child_never_ran();
        return nullptr;
    }
    if (options.stack_bytes != 0) [[unlikely]]
        check_stack_bytes(options.stack_bytes, "a spawn");
    if (!take_slot()) [[unlikely]] {
        wait_for_slot();
        if (cancelled_for_children()) { // meanwhile, unseen by a shielded caller
            free_slot();
            child_never_ran();
            return nullptr;
        }
    }
    task_record* t = nullptr;
    try {
        t = opener->home->tasks().make(*this, closure_bytes, closure_align, from);
        if (options.stack_bytes != 0)
            t->stack_bytes = options.stack_bytes;
        if (!options.name.empty())
            t->given_name = options.name;
        if (options.is_background) [[unlikely]] {
            t->is_background = true;
            opener->home->has_background_task();
        }
    } catch (...) {
        if (t != nullptr)
            opener->home->tasks().free(*t);
        free_slot();
        throw;
    }
    if (local_binding* locals = opener->home->locals()) [[unlikely]]
        t->locals = share_locals(locals);
    return t;
}

void nursery_core::discard_task(task_record& t) noexcept {
    drop_locals(std::exchange(t.locals, nullptr)); // the task may be used again
    opener->home->tasks().free(t);
    free_slot();
}

// It calls nothing, so nothing is saved on the stack: that alone is 18 instructions.
task_record* nursery_core::submit_warm(const closure_kind& kind,
                                       std::source_location from) noexcept {
    scheduler& home = *opener->home;
    if (scheduler::current() != &home || !open || max_children != unlimited ||
        cancelled_for_children() || home.locals() != nullptr) [[unlikely]]
        return nullptr;
    task_record* t = home.tasks().take_warm();
    if (t == nullptr) [[unlikely]]
        return nullptr;
    t->parent = this;
    t->kind_of_closure = &kind;
    t->spawned_at = from;
    link(*t);
    home.submit(*t);
    return t;
}

void nursery_core::submit(task_record& t) noexcept {
    link(t);
    opener->home->submit(t);
}

void nursery_core::submit(task_record& t, task_result& r) noexcept {
    opener->home->keep_task(t, r);
    submit(t);
}

// remote_entry::submit() has taken its slot.
void nursery_core::adopt(task_record& t) noexcept {
    opener->home->tasks().adopt(t, *this);
    if (t.is_background)
        opener->home->has_background_task();
    submit(t);
}

void nursery_core::wake_joiner() noexcept {
    waiter& w = *joiner;
    joiner = nullptr;
    wake(w);
}

// ---- start() ------------------------------------------------------------------------------------

void nursery_core::begin_start() {
    if (scheduler::current() != opener->home)
        used_elsewhere(*this, "start", std::source_location::current());
    CREEL_ASSERT(open, has_ended);
    check_cancel(); // a cancelled caller gets its own `cancelled`, and not that of the nursery
    if (!cancelled_for_children() && !take_slot()) {
        wait_for_slot();
        if (cancelled_for_children())
            free_slot();
    }
    if (cancelled_for_children())
        throw_absorbed();
    ++pending_starts;
}

void nursery_core::end_start(bool taken_over) noexcept {
    if (!taken_over)
        free_slot();
    if (--pending_starts == 0 && children == 0 && joiner != nullptr)
        wake_joiner();
}

// A wait below the child that now sees a cancel of this nursery is interrupted.
void nursery_core::take_over(task_record& t) noexcept {
    nursery_core& from = *t.parent;
    t.parent = this;
    move_fiber(*t.runner, core_of(scope));
    from.child_ended(t); // wakes the caller of start(), after what the move has interrupted
    t.next = nullptr;
    link(t);
}

// ---- the end ------------------------------------------------------------------------------------

// A task that another thread has handed in until here becomes a child. A cancel that the thread has
// sent before is in the inbox, and is taken first.
void nursery_core::wait_for_children() {
    do {
        while (children != 0 || pending_starts != 0) {
            join_waiter w{*this};
            joiner = &w;
            static_cast<void>(park(w));
        }
        if (entry == nullptr)
            return;
        opener->home->incoming().deliver_all();
        entry->adopt();
    } while (children != 0);
}

void nursery_core::join_in_body() {
    CREEL_ASSERT(scheduler::current() == opener->home,
                 "join() of a nursery is called by its body, not on another thread");
    CREEL_ASSERT(&this_parker() == opener,
                 "join() is called by the body of the nursery: a child that calls it would wait "
                 "for itself; to wait for one child, get() its task<R>");
    CREEL_ASSERT(open, has_ended);
    wait_for_children();
    check_cancel_only();
}

// From the close of the entry on, what other threads hand in is refused.
bool nursery_core::settle() {
    if (children == 0 && pending_starts == 0)
        opener->home->yield(); // a schedule point even when there is nothing to wait for
    do
        wait_for_children();
    while (entry != nullptr && !entry->close());
    open = false;
    if (entry != nullptr)
        std::exchange(entry, nullptr)->drop_reference();
    const bool absorbs = core_of(scope).leave_absorbing();
    if (!errors.empty()) [[unlikely]]
        opener->thrown_for = nullptr; // a `cancelled` of the body is dropped here, not swallowed
    return absorbs;
}

void nursery_core::join() {
    const bool absorbs = settle();
    throw_errors();
    if (!absorbs)
        throw_cancelled_members();
}

void nursery_core::abandon() noexcept {
    open = false;
    core_of(scope).leave();
}

void nursery_core::throw_absorbed() const {
    throw task_cancelled{core_of(scope).reason_in_sight(), where};
}

remote_entry& nursery_core::remote() {
    CREEL_ASSERT(scheduler::current() == opener->home,
                 "remote() is called on the nursery's thread; copy the handle to others");
    CREEL_ASSERT(open, has_ended);
    if (entry == nullptr)
        entry = new remote_entry{*this, *opener->home, core_of(scope).own_token(),
                                 cancelled_for_children()};
    return *entry;
}

} // namespace creel::detail
