#include <creel/fibers/detail/inspect/run_counters.hpp>

#include <creel/fibers/detail/run/scheduler.hpp>

#include <algorithm>
#include <utility>

#include <pthread.h>

namespace creel::detail {

namespace {

// Those that no run has had (in a forked child) are behind the others.
run_counters* first_known = nullptr; // guarded by the mutex of the list, as the next two
run_counters* last_known = nullptr;
unsigned highest_number = 0;

using counter = std::uint64_t scheduler_statistics::*;
constexpr std::array counters{&scheduler_statistics::tasks_spawned,
                              &scheduler_statistics::tasks_finished,
                              &scheduler_statistics::fibers_created,
                              &scheduler_statistics::switches,
                              &scheduler_statistics::polls,
                              &scheduler_statistics::waits,
                              &scheduler_statistics::spins,
                              &scheduler_statistics::spins_paid,
                              &scheduler_statistics::spins_wasted,
                              &scheduler_statistics::errors_reported,
                              &scheduler_statistics::cancels_swallowed};

std::span<const statistic> names_of(const statistics_source* source) noexcept {
    return source != nullptr
               ? source->names.first(std::min(source->names.size(), statistics_source::most))
               : std::span<const statistic>{};
}

// One that such a run can go on with; null: there is none.
run_counters* find_free(std::span<const statistic> names) noexcept {
    for (run_counters* c = first_known; c != nullptr; c = c->next)
        if (c->number == 0 || (!c->is_on() && c->more_names.data() == names.data() &&
                               c->more_names.size() == names.size()))
            return c;
    return nullptr;
}

} // namespace

void counted::add_counters_of(const counted& now, std::span<const statistic> names) noexcept {
    const counted before = *this;
    *this = now;
    for (const counter c : counters)
        work.*c += before.work.*c;
    for (std::size_t i = 0; i < latency_histogram::bucket_count; ++i)
        work.cancel_latency.counts[i] += before.work.cancel_latency.counts[i];
    for (std::size_t i = 0; i < names.size(); ++i)
        if (names[i].is_counter)
            more[i] += before.more[i];
}

void run_counters::prepare(scheduler& s) {
    if (s.live.spare_counters == nullptr)
        s.live.spare_counters = new run_counters;
}

void run_counters::begin(scheduler& s) noexcept {
    const std::span<const statistic> names = names_of(s.more_statistics());
    run_counters* c = find_free(names);
    if (c == nullptr) {
        c = std::exchange(s.live.spare_counters, nullptr);
        (last_known != nullptr ? last_known->next : first_known) = c;
        last_known = c;
    }
    if (c->number == 0)
        c->number = ++highest_number;
    c->more_names = names;
    c->last_told = {};
    ::pthread_getname_np(::pthread_self(), c->thread_name.data(), c->thread_name.size());
    ++c->runs;
    c->home = &s;
    s.live.counters = c;
}

void run_counters::end(scheduler& s) noexcept {
    run_counters& c = *s.live.counters;
    if (c.home != &s) // a child that was forked in the run has forgotten it
        return;
    c.past_stalls = c.stalls();
    c.last_told = of_run(s);
    c.past = c.with_past();
    c.last_told = {};
    c.home = nullptr;
}

void run_counters::forget_all() noexcept {
    for (run_counters* c = first_known; c != nullptr; c = c->next) {
        run_counters blank;
        blank.next = c->next;
        *c = blank;
    }
    highest_number = 0;
}

void run_counters::for_each(const std::function<void(run_counters&)>& visit) {
    for (run_counters* c = first_known; c != nullptr; c = c->next)
        if (c->number != 0)
            visit(*c);
}

counted run_counters::of_run(scheduler& s) noexcept {
    run_counters& c = *s.live.counters;
    counted now;
    now.work = s.statistics();
    now.tasks_alive = now.work.tasks_spawned - now.work.tasks_finished;
    if (const statistics_source* source = s.more_statistics())
        source->read(*source, std::span{now.more}.first(c.more_names.size()));
    now.answer = ++c.answers;
    return now;
}

void run_counters::keep(const counted& answer) noexcept {
    if (answer.answer > last_told.answer)
        last_told = answer;
}

counted run_counters::with_past() const noexcept {
    counted sum = past;
    sum.add_counters_of(last_told, more_names);
    sum.work.peak_tasks = std::max(past.work.peak_tasks, last_told.work.peak_tasks);
    return sum;
}

stall_counts run_counters::stalls() const noexcept {
    if (!is_on())
        return past_stalls;
    const stall_counts now = home->live.stalls();
    return {past_stalls.stalls + now.stalls, std::max(past_stalls.longest, now.longest)};
}

} // namespace creel::detail
