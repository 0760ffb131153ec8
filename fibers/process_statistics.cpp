#include <creel/fibers/process_statistics.hpp>

#include <creel/fibers/detail/inspect/asking_thread.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/inspect/run_call.hpp>
#include <creel/fibers/detail/inspect/run_counters.hpp>
#include <creel/fibers/detail/inspect/snapshot.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <algorithm>
#include <utility>

namespace creel {

namespace {

using detail::counted;
using detail::run_counters;
using detail::scheduler;

// On the run's thread.
struct counting {
    void operator()(scheduler& s) noexcept { now = run_counters::of_run(s); }
    counted now{};
};
using counting_call = detail::run_call<counting>;

struct asked_run {
    scheduler* home = nullptr;
    std::uint64_t run = 0; // its run_number()
    run_counters known{};  // when it was asked
    detail::run_snapshot shown{};
    counting_call::pointer call{}; // null: it had no run
};

std::vector<asked_run> ask_all_runs() {
    std::vector<asked_run> asked;
    detail::for_each_counted_run([&](scheduler& s) {
        asked_run& one = asked.emplace_back();
        one.home = &s;
        one.run = s.run_number();
        one.known = s.live.counters;
        if (!one.known.is_on)
            return;
        s.live.copy_to(one.shown);
        one.call = counting_call::post(s, {});
    });
    return asked;
}

// For the next time, if the run does not answer then.
void keep_answers(const std::vector<asked_run>& asked) {
    detail::for_each_counted_run([&](scheduler& s) {
        for (const asked_run& one : asked)
            if (one.home == &s && one.call != nullptr && s.live.counters.is_on &&
                s.run_number() == one.run)
                s.live.counters.last_told = one.known.last_told;
    });
}

run_statistics told_by(const asked_run& one) {
    const counted sum = one.known.with_past(one.known.last_told);
    run_statistics told;
    told.number = one.known.number;
    told.is_on = one.call != nullptr;
    told.thread_id = told.is_on ? one.shown.thread_id : 0;
    told.thread_name = one.known.thread_name.data();
    told.work = sum.work;
    told.tasks_alive = sum.tasks_alive;
    told.more_names = one.known.more_names;
    told.more.assign(sum.more.begin(),
                     sum.more.begin() + static_cast<std::ptrdiff_t>(told.more_names.size()));
    return told;
}

void add(process_statistics& all, run_statistics&& one) {
    all.runs_on += one.is_on ? 1U : 0U;
    all.runs_stalled += one.is_stalled ? 1U : 0U;
    all.tasks_alive += one.tasks_alive;
    // Gauges add up as well.
    const scheduler_statistics before = all.all;
    counted sum{before, 0, {}};
    sum.add_counters_of({one.work, 0, {}}, {});
    all.all = sum.work;
    all.all.fibers_alive += before.fibers_alive;
    all.all.fibers_idle += before.fibers_idle;
    all.all.timers_armed += before.timers_armed;
    all.all.peak_tasks = std::max(before.peak_tasks, one.work.peak_tasks);
    all.runs.push_back(std::move(one));
}

process_statistics ask(duration patience) {
    std::vector<asked_run> asked = ask_all_runs();
    const time_point deadline = deadline_after(clock::now(), patience);
    process_statistics all;
    all.runs.reserve(asked.size());
    for (asked_run& one : asked) {
        const bool has_answered = one.call != nullptr && one.call->await(deadline);
        if (has_answered)
            one.known.last_told = one.call->work.now;
        run_statistics told = told_by(one);
        if (told.is_on && !has_answered) {
            told.is_stalled = true;
            told.tasks_alive = one.shown.tasks;
            told.work.fibers_alive = one.shown.fibers;
            told.work.fibers_idle = one.shown.idle_fibers;
        }
        add(all, std::move(told));
    }
    keep_answers(asked);
    return all;
}

} // namespace

process_statistics all_statistics(saturating_duration patience) {
    process_statistics all;
    detail::on_asking_thread("the statistics of all runs", [&] { all = ask(patience); });
    return all;
}

} // namespace creel
