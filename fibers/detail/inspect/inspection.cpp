#include <creel/fibers/detail/inspect/inspection.hpp>

#include <creel/fibers/detail/inspect/fiber_copy.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/system/futex.hpp>
#include <creel/fibers/detail/task/task_tree.hpp>

#include <algorithm>
#include <chrono>
#include <new>
#include <string>
#include <utility>

namespace creel::detail {

namespace {

// A run is held up for no longer at a time: the clock is looked at after each backtrace, and after
// some fibers without one.
constexpr duration longest_slice = std::chrono::milliseconds{5};
constexpr unsigned fibers_per_look = 64;

// Of the tasks that have not started, so many are grouped.
constexpr std::size_t most_not_started = 4096;

} // namespace

// ---- the requester ------------------------------------------------------------------------------

inspection::inspection(scheduler& of, const inspection_limits& limits) noexcept
    : home_(of),
      limits_{std::min(limits.most_fibers, most_fibers), std::min(limits.most_frames, most_frames),
              limits.only} {
    deliver = [](inbox_node& node) noexcept {
        auto& self = static_cast<inspection&>(node);
        self.home_.add_inspection(self);
    };
}

inspection* inspection::post(scheduler& to, const inspection_limits& limits) {
    auto* const posted = new inspection{to, limits};
    posted->began_at_ = to.began_at(); // no run ends while it is listed
    to.incoming().post(*posted);
    return posted;
}

std::optional<run_snapshot> inspection::await(inspection* posted, duration patience) {
    const struct letting_go {
        inspection* mine;
        ~letting_go() { give_up(mine); }
    } at_end{posted};
    // No wake is lost: the run writes the state before it counts, and the sleep ends at once if the
    // count is not the one that was seen before the look at the state.
    std::uint32_t seen = 0;
    time_point last_progress = posted->posted_at_;
    while (posted->state_.load(std::memory_order_acquire) == pending) { // pairs with finish()
        futex_wait(posted->progress_, seen, deadline_after(last_progress, patience));
        const std::uint32_t now = posted->progress_.load(std::memory_order_acquire);
        if (std::exchange(seen, now) != now)
            last_progress = clock::now();
        if (deadline_after(last_progress, patience) > clock::now())
            continue;
        run_snapshot stalled;
        stalled.how = run_snapshot::ending::stalled;
        stalled.patience = patience;
        stalled.began_at = posted->began_at_;
        posted->home_.live.copy_to(stalled);
        stalled.runs = running_fiber_of(posted->home_);
        return stalled;
    }
    if (posted->state_.load(std::memory_order_relaxed) == ended)
        return std::nullopt;
    return std::move(posted->found_);
}

run_snapshot inspection::copy_here(scheduler& of, const inspection_limits& limits) {
    inspection own{of, limits}; // one slice that never is over
    own.copy_slice();
    return std::move(own.found_);
}

void inspection::give_up(inspection* posted) noexcept {
    posted->given_up_.store(true, std::memory_order_relaxed); // the run need not see it soon
    posted->release();
}

void inspection::release() noexcept {
    if (holders_.fetch_sub(1) == 1)
        delete this;
}

// ---- the run ------------------------------------------------------------------------------------

bool inspection::work() noexcept {
    if (given_up_.load(std::memory_order_relaxed)) {
        finish(ended);
        return true;
    }
    slice_ends_ = clock::now() + longest_slice;
    try {
        copy_slice();
    } catch (...) { // no memory, or an error of the describe() of a program's own waiter
        found_.how = run_snapshot::ending::cut_short;
        without_frames_.clear();
        next_carrier_ = nullptr;
    }
    if (without_frames_.empty() && next_carrier_ == nullptr) {
        finish(done);
        return true;
    }
    tell_progress();
    return false;
}

void inspection::tell_progress() noexcept {
    progress_.fetch_add(1, std::memory_order_release);
    futex_wake_all(progress_);
}

// After the last store the requester may delete its half, so `this` is let go of last.
void inspection::finish(state how) noexcept {
    state_.store(how, std::memory_order_release);
    tell_progress();
    release();
}

void inspection::leaves(const fiber_record& f) noexcept {
    if (next_carrier_ == &f)
        next_carrier_ = f.next_made;
}

void inspection::copy_slice() {
    now_ = home_.now();
    if (!began_)
        begin();
    if (whole_list_)
        list_all();
    else
        group_some();
    began_ = true;
}

void inspection::begin() {
    home_.live.copy_to(found_);
    const scheduler_statistics now = home_.statistics();
    found_.tasks = now.tasks_spawned - now.tasks_finished;
    found_.fibers = now.fibers_alive;
    found_.idle_fibers = now.fibers_idle;
    found_.began_at = home_.began_at();
    std::size_t natives = 0;
    home_.for_each_native([&natives](const fiber_record&) { ++natives; });
    whole_list_ = limits_.only != 0 || found_.tasks + natives <= limits_.most_fibers;
}

bool inspection::slice_is_over() noexcept {
    return clock::now() >= slice_ends_;
}

// ---- every fiber --------------------------------------------------------------------------------

// The first slice lists all fibers. If it has no time for all backtraces, the next ones walk the
// same tree again, and look at the fibers that have none: afresh, because they have run meanwhile.
void inspection::list_all() {
    looked_ = false;
    skipped_ = false;
    ready_.clear();
    for (const runnable* r = home_.first_ready(); r != nullptr; r = r->next_ready)
        ready_.insert(r);
    const auto list_task = [this](const task_record& t, std::size_t depth) {
        list(&t, t.runner, depth + 1);
    };
    list(nullptr, &home_.main(), 0);
    for_each_task(home_.main(), list_task);
    home_.for_each_native([&](const fiber_record& f) {
        list(nullptr, &f, 0);
        for_each_task(f, list_task);
    });
    if (skipped_)
        return;
    for (const std::uint64_t gone : without_frames_)
        found_.tree[places_.at(gone)].state = fiber_state::ended;
    without_frames_.clear();
}

void inspection::list(const task_record* t, const fiber_record* f, std::size_t depth) {
    const std::uint64_t number = t != nullptr ? t->id : f->id;
    if (limits_.only != 0 && number != limits_.only)
        return;
    if (began_) {
        if (!without_frames_.contains(number) || no_time_is_left())
            return;
        without_frames_.erase(number);
    }
    const auto [place, is_new] = places_.try_emplace(number, found_.tree.size());
    if (is_new)
        found_.tree.emplace_back();
    fiber_snapshot& to = found_.tree[place->second];
    const std::size_t same_depth = limits_.only != 0 ? 0 : is_new ? depth : to.depth;
    to = {};
    to.depth = same_depth;
    fill(to, t, f);
    if (f == nullptr || limits_.most_frames == 0)
        return;
    if (no_time_is_left()) {
        without_frames_.insert(number);
        return;
    }
    copy_frames(to, *f, limits_.most_frames);
    looked_ = true;
}

// Each slice takes one backtrace at least, however long its walk through the tree is: so there is a
// last one.
bool inspection::no_time_is_left() noexcept {
    const bool is_over = looked_ && slice_is_over();
    skipped_ = skipped_ || is_over;
    return is_over;
}

void inspection::fill(fiber_snapshot& to, const task_record* t, const fiber_record* f) const {
    copy_identity(to, t, f);
    if (f == nullptr) {
        to.state = t->in_line ? fiber_state::in_line : fiber_state::not_started;
        return;
    }
    copy_fiber(to, *f, now_);
    if (to.state == fiber_state::not_parked && whole_list_)
        to.state = ready_.contains(f) ? fiber_state::ready : fiber_state::elsewhere;
}

// ---- groups -------------------------------------------------------------------------------------

// The carriers are in a list of their own, which a slice can leave and the next can enter again at
// the same place: leaves() moves the place on if that carrier ends. A tree could not be entered
// again so cheaply.
void inspection::group_some() {
    if (!began_) {
        next_carrier_ = home_.first_carrier();
        group(nullptr, &home_.main());
        home_.for_each_native([this](const fiber_record& f) { group(nullptr, &f); });
    }
    while (next_carrier_ != nullptr) {
        const fiber_record& f = *next_carrier_;
        next_carrier_ = f.next_made;
        if (f.current != nullptr) {
            ++started_;
            group(f.current, &f);
        }
        if (++grouped_ % fibers_per_look == 0 && next_carrier_ != nullptr && slice_is_over())
            return;
    }
    // Of the tasks that have not started only the first are looked at: nothing holds a place in
    // their queues.
    std::uint64_t seen = started_;
    seen += group_not_started(home_.first_ready());
    seen += group_not_started(home_.first_in_line());
    const scheduler_statistics now = home_.statistics();
    const std::uint64_t tasks = now.tasks_spawned - now.tasks_finished;
    found_.not_looked_at = tasks - std::min(tasks, seen);
    std::stable_sort(
        found_.groups.begin(), found_.groups.end(),
        [](const fiber_group& a, const fiber_group& b) { return a.fibers > b.fibers; });
}

std::size_t inspection::group_not_started(const runnable* first) {
    std::size_t found = 0;
    std::size_t looks = 0;
    for (const runnable* r = first; r != nullptr && looks < most_not_started; r = r->next_ready) {
        ++looks;
        if (r->kind != runnable::kind_type::task)
            continue;
        group(static_cast<const task_record*>(r), nullptr);
        ++found;
    }
    return found;
}

// The key is the line that spawned the fiber and what it waits for: the text, if fibers that wait
// for the same thing have the same text; else the kind of wait.
void inspection::group(const task_record* t, const fiber_record* f) {
    key_.clear();
    if (t != nullptr)
        key_.append(t->spawned_at.file_name()).append(std::to_string(t->spawned_at.line()));
    else
        key_ += f == &home_.main() ? "main" : "native";
    key_ += ' ';
    const waiter* w = f != nullptr ? f->waiting_on : nullptr;
    if (w != nullptr && w->kind().is_told_by_text)
        w->kind().describe(*w, key_);
    else if (w != nullptr)
        key_ += std::to_string(reinterpret_cast<std::uintptr_t>(&w->kind()));
    else
        key_ += f != nullptr ? "" : t->in_line ? "in line" : "not started";
    const auto known = groups_.find(key_);
    if (known == groups_.end() && groups_.size() == most_groups) {
        ++found_.ungrouped;
        return;
    }
    if (known == groups_.end()) {
        groups_.emplace(key_, found_.groups.size());
        fiber_group& made = found_.groups.emplace_back();
        fill(made.first, t, f);
        made.fibers = 1;
        made.shortest = made.longest = made.first.waited;
        made.waits_longest = made.first.who.id;
        if (f != nullptr)
            copy_frames(made.first, *f, limits_.most_frames);
        return;
    }
    fiber_group& same = found_.groups[known->second];
    ++same.fibers;
    if (w == nullptr)
        return;
    const duration waited = now_ - f->parked_since;
    same.shortest = std::min(same.shortest, waited);
    if (waited > same.longest) {
        same.longest = waited;
        same.waits_longest = number_of(*f);
    }
}

} // namespace creel::detail
