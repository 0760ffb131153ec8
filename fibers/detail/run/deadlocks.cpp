// When a run looks for fibers that wait for each other, or asks whether all of its fibers wait for
// ever, and what it does then.
//
// The search costs nothing while no fiber waits for a lock or a result. Otherwise it is made each
// second in which there was a new wait of that kind, and then after twice the time again and again,
// up to a minute; but it takes no more than a fiftieth of the time. A poll checks for a search only
// when a period of trim.cpp ends. So the check is free, and a search is at most 0.3 s late. In
// debug mode it is also made at each such wait: see audit_park().
//
// A run that has nothing to wait for but a wake of another thread asks after a second whether there
// is such a thread.
//
// Both is done on the stack of Boost's dispatcher, where every fiber is parked or ready.
#include <creel/fibers/detail/report/reporting.hpp>
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
#include <ctime>
#include <memory>
#include <unordered_set>
#include <utility>

namespace creel::detail {

namespace {

constexpr duration first_pause = std::chrono::seconds{1};
constexpr duration longest_pause = std::chrono::seconds{64};
constexpr int share_of_searches = 50;

// A search at each lock costs the square of their number.
constexpr std::size_t most_searched_at_once = 64;

constexpr std::size_t most_told_cycles = 64; // that are not proven

// Of the thread, until now.
duration processor_time() noexcept {
    timespec used{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return std::chrono::seconds{used.tv_sec} + std::chrono::nanoseconds{used.tv_nsec};
}

void write_to_stderr(const std::string& text) noexcept {
    std::fputs(text.c_str(), stderr); // in one piece: other threads may write too
}

} // namespace

void scheduler::begin_searches() noexcept {
    last_search_ = last_poll_;
    no_search_before_ = last_poll_;
    search_pause_ = first_pause;
    held_waits_seen_ = this_held_waits.made;
    search_is_due_ = false;
    stuck_since_ = time_point::max();
    stuck_pause_ = first_pause;
    stuck_is_due_ = false;
    has_background_ = false;
    told_of_all_wait_ = false;
    told_cycles_.clear();
    deadlock_.clear();
}

time_point scheduler::next_search() const noexcept {
    if (this_held_waits.count == 0 && !has_background_)
        return time_point::max();
    const bool is_new = this_held_waits.made != held_waits_seen_;
    return std::max(last_search_ + (is_new || has_background_ ? first_pause : search_pause_),
                    no_search_before_);
}

// In debug mode, before a fiber parks on `w`.
void scheduler::audit_park(const waiter& w) noexcept {
    name_wait_in_call_once();
    if (this_held_waits.count != 0 && this_held_waits.count <= most_searched_at_once &&
        (w.kind().holder != nullptr || nursery_awaited_by(w) != nullptr))
        search_soon();
}

// What a describe() of the program throws ends the search, and so does a lack of memory: the next
// one may have some.
void scheduler::search_for_deadlock() noexcept {
    search_is_due_ = false;
    const bool is_new = std::exchange(held_waits_seen_, this_held_waits.made) != held_waits_seen_;
    search_pause_ = is_new ? first_pause : std::min(2 * search_pause_, longest_pause);
    last_search_ = last_poll_;
    const reporting now;
    const duration before = processor_time();
    try {
        search();
    } catch (...) { // NOLINT(bugprone-empty-catch): see above
    }
    no_search_before_ = last_poll_ + share_of_searches * (processor_time() - before);
}

void scheduler::search() {
    const deadlock_cycle found = find_deadlock(main_->outermost);
    if (found.is_proven)
        break_deadlock(found.fibers);
    else if (!found.fibers.empty())
        tell_of(found.fibers);
    else if (has_background_ && only_background_goes_on())
        all_wait(true);
}

// Once for each cycle, and when it has lasted: a cancel may be about to end it.
void scheduler::tell_of(const std::vector<const fiber_record*>& cycle) {
    const bool is_new =
        !options_.debug && std::any_of(cycle.begin(), cycle.end(), [this](const fiber_record* f) {
            return last_poll_ - f->parked_since < first_pause;
        });
    std::vector<std::uint64_t> numbers;
    numbers.reserve(cycle.size());
    for (const fiber_record* const f : cycle)
        numbers.push_back(number_of(*f));
    if (is_new || told_cycles_.size() == most_told_cycles ||
        std::find(told_cycles_.begin(), told_cycles_.end(), numbers) != told_cycles_.end())
        return;
    told_cycles_.push_back(std::move(numbers));
    write_to_stderr(report_of(cycle, outside_->now()).text +
                    "creel: only a cancel can end these waits, and the run goes on: give them a "
                    "deadline, or take the locks in one order\n");
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
    const char* const why_not = root == nullptr ? "the run has no root that a cancel reaches"
                                : root->own.level == cancel_level::cancelled
                                    ? "the run is cancelled already"
                                : !can_cancel ? "no cancel ends any of these waits"
                                              : nullptr;
    if (why_not != nullptr) {
        write_to_stderr(found.text + "creel: " + why_not + ", so the process aborts: " + remedy +
                        '\n');
        std::abort();
    }
    auto why = std::make_shared<cancel_reason>();
    why->cause = cancel_cause::deadlock;
    why->text = found.summary;
    deadlock_ = std::move(found.summary);
    write_to_stderr(found.text + "creel: the run is cancelled, and ends with creel::deadlock\n");
    root->request(cancel_request::now(std::move(why)));
}

// ---- every fiber waits --------------------------------------------------------------------------

// Before the run waits. max(): it is not stuck, because something may come.
time_point scheduler::patience_ends() noexcept {
    if (!nothing_can_come()) {
        stuck_since_ = time_point::max();
        return time_point::max();
    }
    if (stuck_since_ == time_point::max()) {
        stuck_since_ = outside_->now();
        stuck_pause_ = first_pause;
    }
    return deadline_after(stuck_since_, stuck_pause_);
}

// After the wait.
void scheduler::waited_until(time_point patience) noexcept {
    if (anything_ready()) {
        stuck_since_ = time_point::max();
    } else if (last_poll_ >= patience) {
        stuck_is_due_ = true;
        call_dispatcher();
    }
}

// What nothing_can_come() does not see: threads. Where there is none, no handle of a remote_nursery
// and no cancel_token can come from outside either. And a signal, if main waits for what it does.
bool scheduler::others_can_wake() {
    std::size_t runs = 0;
    for_each_run([&runs](scheduler&) { ++runs; });
    const waiter* const w = main_->waiting_on;
    const bool waits_for_signal = options_.takes_signals && main_->outermost != nullptr &&
                                  w != nullptr && w->kind().cancellable &&
                                  would_see(*main_, *main_->outermost);
    return runs > 1 || waits_for_signal || blocking_pool::shared().has_calls() ||
           has_foreign_threads();
}

template <typename Visit>
void scheduler::for_each_task_of_run(Visit visit) const {
    bool goes_on = true;
    const auto below = [&](const fiber_record& root) {
        if (goes_on)
            for_each_task(root, [&](const task_record& t, std::size_t depth) {
                goes_on = visit(root, t, depth);
                return goes_on;
            });
    };
    below(*main_);
    natives_.for_each(below);
}

bool scheduler::any_wait_sees(const scope_core& root) const {
    const auto sees = [&root](const fiber_record& f) {
        return f.waiting_on != nullptr && f.waiting_on->kind().cancellable && would_see(f, root);
    };
    bool found = sees(*main_);
    natives_.for_each([&](const fiber_record& f) { found = found || sees(f); });
    for_each_task_of_run([&](const fiber_record&, const task_record& t, std::size_t) {
        if (t.runner == nullptr) // a cancel drops what is in line
            found = found || (t.in_line && reaches(root, core_of(t.parent->scope)));
        else if (t.runner->waiting_on == nullptr) // ready: it sees the cancel at its next wait
            found = found || would_see(*t.runner, root);
        else
            found = found || sees(*t.runner);
        return !found;
    });
    return found;
}

// The walk ends at the first other fiber that can go on, which in a sound program is soon. A fiber
// that has not waited for a second may do so at once.
bool scheduler::only_background_goes_on() const {
    std::unordered_set<party_number> background;
    std::vector<party_number> holders; // of what the others wait for
    const auto can_go_on = [&](const fiber_record& f) {
        const waiter* const w = f.waiting_on;
        if (w == nullptr || !w->kind().needs_party || w->has_timer_ ||
            last_poll_ - f.parked_since < first_pause ||
            (w->kind().cancellable && visible_deadline(f) != time_point::max()))
            return true;
        if (w->kind().holder != nullptr)
            holders.push_back(w->kind().holder(*w));
        return false;
    };
    bool found = can_go_on(*main_);
    natives_.for_each([&](const fiber_record& f) { found = found || can_go_on(f); });
    constexpr auto none = static_cast<std::size_t>(-1);
    std::size_t above = none; // the depth of the background task that the next are below
    const fiber_record* of = nullptr;
    for_each_task_of_run([&](const fiber_record& root, const task_record& t, std::size_t depth) {
        if (depth <= above || std::exchange(of, &root) != &root)
            above = t.is_background ? depth : none;
        if (above != none)
            background.insert(t.id);
        else
            found = found || (t.runner != nullptr ? can_go_on(*t.runner) : !t.in_line);
        return !found;
    });
    return !found && std::none_of(holders.begin(), holders.end(),
                                  [&](party_number holder) { return background.contains(holder); });
}

// When the run has waited for `stuck_pause_`, and nothing has come.
void scheduler::ask_if_stuck() noexcept {
    stuck_is_due_ = false;
    stuck_pause_ = std::min(2 * stuck_pause_, longest_pause);
    if (anything_ready() || !nothing_can_come())
        return;
    const reporting now;
    try {
        all_wait(false);
    } catch (...) { // NOLINT(bugprone-empty-catch): as search_for_deadlock()
    }
}

// A thread may have woken a fiber just before it ended. If there is none any more, the second look
// is conclusive: what it has posted is in the inbox.
void scheduler::all_wait(bool but_background) {
    if (others_can_wake()) {
        if (options_.debug && !std::exchange(told_of_all_wait_, true))
            write_to_stderr("creel: debug: every fiber waits, and only another thread or a signal "
                            "can end that (creel::dump_fibers shows them)\n");
        return;
    }
    poll_round();
    if (but_background ? !only_background_goes_on() : anything_ready() || !nothing_can_come())
        return;
    if (incoming_.has_nodes() || incoming_.bell_was_rung())
        return;
    const scope_core* const root = main_->outermost;
    end_for(report_of_all(*this, but_background), root != nullptr && any_wait_sees(*root),
            "see what each fiber waits for, and which fiber should end that wait");
}

} // namespace creel::detail
