#include <creel/fibers/detail/inspect/inspection.hpp>

#include <creel/fibers/detail/inspect/fiber_copy.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/task/task_tree.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace creel::detail {

namespace {

// Of the tasks that have not started, and of those that are ready, so many are looked at: nothing
// holds a place in their queues, so that a slice looks at all that it ever looks at.
constexpr std::size_t most_not_started = 4096;       // to group them
constexpr std::size_t most_in_queue_for_one = 32768; // to find one of them

} // namespace

// ---- the requester ------------------------------------------------------------------------------

const run_request::kind inspection::how{
    [](run_request& self) noexcept { return static_cast<inspection&>(self).work(); },
    [](run_request* self) noexcept { delete static_cast<inspection*>(self); }};

// No run ends while it is listed.
inspection::inspection(scheduler& of, const inspection_limits& limits) noexcept
    : run_request(of, how),
      limits_{std::min(limits.most_fibers, most_fibers), std::min(limits.most_frames, most_frames),
              limits.only},
      run_number_(of.live.counters->number),
      began_at_(of.began_at()),
      before_(of.progress()) {}

run_request::pointer<inspection> inspection::post_to(scheduler& run,
                                                     const inspection_limits& limits) {
    pointer<inspection> posted{new inspection{run, limits}};
    posted->post();
    return posted;
}

std::optional<run_snapshot> inspection::await_copy(duration patience) {
    outcome how_it_ended = await(patience);
    run_progress now = home().progress();
    bool moves = now.is_excused() || now != before_;
    if (how_it_ended == outcome::late && moves) {
        // From now on: runs are awaited one after another, and this one was posted long ago.
        how_it_ended = await(patience, clock::now());
        patience = patience > duration::max() / 2 ? duration::max() : 2 * patience;
        const run_progress then = std::exchange(now, home().progress());
        moves = now.is_excused() || now != then;
    }
    if (how_it_ended == outcome::done)
        return std::move(found_);
    if (how_it_ended == outcome::ended)
        return std::nullopt;
    run_snapshot counts;
    counts.how = moves ? run_snapshot::ending::late : run_snapshot::ending::stalled;
    counts.number = run_number_;
    counts.patience = patience;
    counts.progress = now;
    counts.began_at = began_at_;
    home().live.copy_to(counts);
    return counts;
}

run_snapshot inspection::copy_here(scheduler& of, const inspection_limits& limits) {
    inspection own{of, limits}; // one slice that never is over
    own.copy_slice();
    return std::move(own.found_);
}

// ---- the run ------------------------------------------------------------------------------------

bool inspection::work() noexcept {
    slice_ends_ = clock::now() + longest_slice;
    try {
        copy_slice();
    } catch (...) { // no memory, or an error of the describe() of a program's own waiter
        found_.how = run_snapshot::ending::cut_short;
        without_frames_.clear();
        carriers.stop();
    }
    return without_frames_.empty() && carriers.is_over();
}

void inspection::copy_slice() {
    now_ = home().now();
    if (!began_)
        begin();
    if (limits_.only != 0)
        look_for_one();
    else if (whole_list_)
        list_all();
    else
        group_some();
    began_ = true;
}

void inspection::begin() {
    home().live.copy_to(found_);
    found_.number = run_number_;
    const scheduler_statistics now = home().statistics();
    found_.tasks = now.tasks_spawned - now.tasks_finished;
    found_.fibers = now.fibers_alive;
    found_.idle_fibers = now.fibers_idle;
    found_.began_at = began_at_;
    std::size_t natives = 0;
    home().for_each_native([&natives](const fiber_record&) { ++natives; });
    whole_list_ = found_.tasks + natives <= limits_.most_fibers;
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
    for (const runnable* r = home().first_ready(); r != nullptr; r = r->next_ready)
        ready_.insert(r);
    const auto list_task = [this](const task_record& t, std::size_t depth) {
        list(&t, t.runner, depth + 1);
    };
    list(nullptr, &home().main(), 0);
    for_each_task(home().main(), list_task);
    home().for_each_native([&](const fiber_record& f) {
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
    if (began_) {
        if (!without_frames_.contains(number) || no_time_is_left())
            return;
        without_frames_.erase(number);
    }
    const auto [place, is_new] = places_.try_emplace(number, found_.tree.size());
    if (is_new)
        found_.tree.emplace_back();
    fiber_snapshot& to = found_.tree[place->second];
    const std::size_t same_depth = is_new ? depth : to.depth;
    to = {};
    to.depth = same_depth;
    fill(to, t, f);
    if (to.state == fiber_state::not_parked)
        to.state = ready_.contains(f) ? fiber_state::ready : fiber_state::elsewhere;
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
}

// ---- one fiber ----------------------------------------------------------------------------------

// It ends when the fiber is found. A task that begins between two slices, on a carrier that the
// walk has passed, is missed.
void inspection::look_for_one() {
    if (!began_) {
        if (home().main().id == limits_.only) {
            list_only(nullptr, &home().main());
            return;
        }
        home().for_each_native([this](const fiber_record& f) {
            if (f.id == limits_.only)
                list_only(nullptr, &f);
        });
        look_for_one_not_started(home().first_ready());
        if (found_.tree.empty())
            look_for_one_not_started(home().first_in_line());
        if (!found_.tree.empty())
            return;
        carriers.begin_at(home().first_carrier());
    }
    carriers.go_on(slice_ends_, [this](const fiber_record& f) {
        if (f.current->id != limits_.only)
            return carrier_walk::step::next;
        list_only(f.current, &f);
        return carrier_walk::step::stop;
    });
}

void inspection::look_for_one_not_started(const runnable* first) {
    std::size_t looks = 0;
    for (const runnable* r = first; r != nullptr && looks < most_in_queue_for_one;
         r = r->next_ready, ++looks) {
        if (r->kind != runnable::kind_type::task)
            continue;
        const auto* const t = static_cast<const task_record*>(r);
        if (t->id != limits_.only)
            continue;
        list_only(t, nullptr);
        return;
    }
}

void inspection::list_only(const task_record* t, const fiber_record* f) {
    fiber_snapshot& to = found_.tree.emplace_back();
    fill(to, t, f);
    if (f == nullptr)
        return;
    if (to.state == fiber_state::not_parked) {
        std::size_t looks = 0;
        const runnable* r = home().first_ready();
        while (r != nullptr && r != f && ++looks < most_in_queue_for_one)
            r = r->next_ready;
        if (r == nullptr || r == f) // else it is not known
            to.state = r == f ? fiber_state::ready : fiber_state::elsewhere;
    }
    if (limits_.most_frames != 0)
        copy_frames(to, *f, limits_.most_frames);
}

// ---- groups -------------------------------------------------------------------------------------

void inspection::group_some() {
    if (!began_) {
        carriers.begin_at(home().first_carrier());
        group(nullptr, &home().main());
        home().for_each_native([this](const fiber_record& f) { group(nullptr, &f); });
    }
    carriers.go_on(slice_ends_, [this](const fiber_record& f) {
        ++started_;
        group(f.current, &f);
        return carrier_walk::step::next;
    });
    if (!carriers.is_over())
        return;
    // Of the tasks that have not started only the first are looked at.
    std::uint64_t seen = started_;
    seen += group_not_started(home().first_ready());
    seen += group_not_started(home().first_in_line());
    const scheduler_statistics now = home().statistics();
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
        key_ += f == &home().main() ? "main" : "native";
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
