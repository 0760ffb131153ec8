#include <creel/fibers/detail/inspect/run_counters.hpp>

#include <creel/fibers/detail/run/scheduler.hpp>

#include <algorithm>

#include <pthread.h>

namespace creel::detail {

namespace {

scheduler* first_known = nullptr; // guarded by the mutex of the list, as the next
scheduler* last_known = nullptr;

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

void run_counters::begin(scheduler& s) noexcept {
    run_counters& c = s.live.counters;
    if (c.number == 0) {
        c.number = last_known != nullptr ? last_known->live.counters.number + 1 : 1;
        c.next = nullptr;
        (last_known != nullptr ? last_known->live.counters.next : first_known) = &s;
        last_known = &s;
    }
    const statistics_source* source = s.more_statistics();
    const auto names =
        source != nullptr
            ? source->names.first(std::min(source->names.size(), statistics_source::most))
            : std::span<const statistic>{};
    if (names.data() != c.more_names.data()) // another kind of entry point
        c.past.more = {};
    c.more_names = names;
    c.last_told = {};
    ::pthread_getname_np(::pthread_self(), c.thread_name.data(), c.thread_name.size());
    c.is_on = true;
}

void run_counters::end(scheduler& s) noexcept {
    run_counters& c = s.live.counters;
    c.is_on = false;
    c.past = c.with_past(of_run(s));
    c.last_told = {};
}

void run_counters::forget_all() noexcept {
    for (scheduler* s = first_known; s != nullptr;) {
        run_counters& c = s->live.counters;
        s = c.next;
        c = {};
    }
    first_known = last_known = nullptr;
}

void run_counters::for_each(const std::function<void(scheduler&)>& visit) {
    for (scheduler* s = first_known; s != nullptr; s = s->live.counters.next)
        visit(*s);
}

counted run_counters::of_run(const scheduler& s) noexcept {
    counted now;
    now.work = s.statistics();
    now.tasks_alive = now.work.tasks_spawned - now.work.tasks_finished;
    if (const statistics_source* source = s.more_statistics())
        source->read(*source, std::span{now.more}.first(s.live.counters.more_names.size()));
    return now;
}

counted run_counters::with_past(const counted& now) const noexcept {
    counted sum = past;
    sum.add_counters_of(now, more_names);
    sum.work.peak_tasks = std::max(past.work.peak_tasks, now.work.peak_tasks);
    return sum;
}

} // namespace creel::detail
