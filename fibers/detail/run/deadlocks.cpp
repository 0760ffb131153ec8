// When a run looks for fibers that wait for each other, or asks whether all of its fibers wait for
// ever, and what it does then.
//
// The search costs nothing while no fiber waits for a lock or a result: a look at a number each
// second. Otherwise it is made after a second, and then after twice the time again and again, up to
// a minute, until there is another such wait. In debug mode it is made at each of them: see
// audit_park().
//
// A run that has nothing to wait for but a wake of another thread asks after a second whether there
// is such a thread.
//
// Both is done on the stack of Boost's dispatcher, where every fiber is parked or ready.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/deadlock.hpp>
#include <creel/fibers/detail/blocking/blocking_pool.hpp>
#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/inspect/deadlock_report.hpp>
#include <creel/fibers/detail/inspect/deadlock_search.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/system/foreign_threads.hpp>
#include <creel/fibers/detail/task/task_tree.hpp>
#include <creel/fibers/held_wait.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

namespace creel::detail {

namespace {

constexpr duration first_pause = std::chrono::seconds{1};
constexpr duration longest_pause = std::chrono::seconds{64};

// A search at each lock costs the square of their number; with more of them it is made at the next
// poll.
constexpr std::size_t most_searched_at_once = 64;

void write_to_stderr(const std::string& text) noexcept {
    std::fputs(text.c_str(), stderr); // in one piece: other threads may write too
}

} // namespace

void scheduler::begin_searches() noexcept {
    search_pause_ = first_pause;
    next_search_ = last_poll_ + search_pause_;
    held_waits_seen_ = this_held_waits.made;
    search_is_due_ = false;
    stuck_pause_ = first_pause;
    stuck_is_due_ = false;
    has_background_ = false;
    told_of_all_wait_ = false;
    deadlock_.clear();
}

void scheduler::search_soon() noexcept {
    if (this_held_waits.count == 0 && !has_background_) {
        next_search_ = last_poll_ + first_pause;
        return;
    }
    search_is_due_ = true;
    call_dispatcher();
}

// In debug mode, before a fiber parks on `w`.
void scheduler::audit_park(const waiter& w) noexcept {
    name_wait_in_call_once();
    if (this_held_waits.count == 0 ||
        (w.kind().holder == nullptr && nursery_awaited_by(w) == nullptr))
        return;
    if (this_held_waits.count <= most_searched_at_once)
        search_soon();
    else
        next_search_ = last_poll_;
}

void scheduler::search_for_deadlock() noexcept {
    search_is_due_ = false;
    const bool is_new = std::exchange(held_waits_seen_, this_held_waits.made) != held_waits_seen_;
    search_pause_ = is_new ? first_pause : std::min(2 * search_pause_, longest_pause);
    next_search_ = last_poll_ + (has_background_ ? stuck_pause_ : search_pause_);
    try {
        const std::vector<const fiber_record*> cycle = find_deadlock();
        if (!cycle.empty())
            break_deadlock(cycle);
        else if (has_background_ && only_background_goes_on())
            all_wait();
    } catch (const std::bad_alloc&) { // the next search may have memory
    }
}

// A cycle is broken when one of its waits ends: that fiber unwinds, and lets go of what it holds.
void scheduler::break_deadlock(const std::vector<const fiber_record*>& cycle) {
    const scope_core* const root = main_->outermost;
    const bool can_cancel =
        root != nullptr && std::any_of(cycle.begin(), cycle.end(), [root](const fiber_record* f) {
            return f->waiting_on->kind().cancellable && would_see(*f, *root);
        });
    end_for(report_of(cycle, outside_->now()), can_cancel,
            "wait with lock_cancellable(), take the locks in one order, and hold none while you "
            "wait for a child");
}

void scheduler::end_for(deadlock_report found, bool can_cancel, const char* remedy) {
    scope_core* const root = main_->outermost;
    if (!can_cancel || root->own.level == cancel_level::cancelled) {
        write_to_stderr(
            found.text +
            "creel: no cancel ends any of these waits, so the process aborts: " + remedy + '\n');
        std::abort();
    }
    write_to_stderr(found.text + "creel: the run is cancelled, and ends with creel::deadlock\n");
    auto why = std::make_shared<cancel_reason>();
    why->cause = cancel_cause::deadlock;
    why->text = found.summary;
    deadlock_ = std::move(found.summary);
    root->request(cancel_request::now(std::move(why)));
}

// ---- every fiber waits --------------------------------------------------------------------------

// What nothing_can_come() does not see: threads. Where there is none, no handle of a remote_nursery
// and no cancel_token can come from outside either.
bool scheduler::others_can_wake() noexcept {
    std::size_t runs = 0;
    for_each_run([&runs](scheduler&) { ++runs; });
    return runs > 1 || blocking_pool::shared().has_calls() || has_foreign_threads();
}

bool scheduler::any_wait_sees(const scope_core& root) const {
    bool found = false;
    const auto look = [&](const fiber_record& f) {
        found = found || ((f.waiting_on == nullptr || f.waiting_on->kind().cancellable) &&
                          would_see(f, root));
    };
    look(*main_);
    for_each_task(*main_, [&](const task_record& t, std::size_t) {
        if (t.runner != nullptr)
            look(*t.runner);
        else if (t.in_line) // a cancel drops it
            found = found || reaches(root, core_of(t.parent->scope));
        return !found;
    });
    return found;
}

// The walk ends at the first other task that can go on, which in a sound program is soon.
bool scheduler::only_background_goes_on() const {
    const auto can_go_on = [](const fiber_record& f) {
        const waiter* const w = f.waiting_on;
        return w == nullptr || !w->kind().needs_party || w->has_timer_ ||
               (w->kind().cancellable && visible_deadline(f) != time_point::max());
    };
    bool found = can_go_on(*main_);
    natives_.for_each([&](const fiber_record& f) { found = found || can_go_on(f); });
    constexpr auto none = static_cast<std::size_t>(-1);
    std::size_t background = none; // the depth of the task whose descendants are passed over
    for_each_task(*main_, [&](const task_record& t, std::size_t depth) {
        if (depth <= background)
            background = t.is_background ? depth : none;
        if (background == none)
            found = found || (t.runner != nullptr ? can_go_on(*t.runner) : !t.in_line);
        return !found;
    });
    return !found;
}

// When the run has waited for `stuck_pause_`, and nothing has come.
void scheduler::ask_if_stuck() noexcept {
    stuck_is_due_ = false;
    if (anything_ready() || !nothing_can_come())
        return;
    try {
        all_wait();
    } catch (const std::bad_alloc&) { // the next time there may be memory
    }
}

void scheduler::all_wait() {
    stuck_pause_ = std::min(2 * stuck_pause_, longest_pause);
    if (!others_can_wake()) {
        const scope_core* const root = main_->outermost;
        end_for(report_of_all(*this), root != nullptr && any_wait_sees(*root),
                "see what each fiber waits for, and which fiber should end that wait");
    } else if (options_.debug && !std::exchange(told_of_all_wait_, true)) {
        write_to_stderr("creel: debug: every fiber waits, and only another thread can wake one "
                        "(creel::dump_fibers shows them)\n");
    }
}

} // namespace creel::detail
