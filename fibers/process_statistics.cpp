#include <creel/fibers/process_statistics.hpp>

#include <creel/fibers/detail/inspect/asking_thread.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/inspect/run_counters.hpp>
#include <creel/fibers/detail/inspect/run_request.hpp>
#include <creel/fibers/detail/inspect/snapshot.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace creel {

namespace {

using detail::counted;
using detail::run_counters;
using detail::run_request;
using detail::scheduler;

class counting : public run_request {
public:
    static pointer<counting> post_to(scheduler& run) {
        pointer<counting> posted{new counting{run}};
        posted->post();
        return posted;
    }
    counted now{}; // the run's, until the work is done

private:
    explicit counting(scheduler& run) noexcept : run_request(run, how) {}
    ~counting() = default;

    static const kind how;
};

const run_request::kind counting::how{
    [](run_request& self) noexcept {
        auto& me = static_cast<counting&>(self);
        me.now = run_counters::of_run(me.home());
        return true;
    },
    [](run_request* self) noexcept { delete static_cast<counting*>(self); }};

struct asked_run {
    const run_counters* whose = nullptr;
    std::uint64_t run = 0; // the number of runs that had begun
    run_request::pointer<counting> answer{};
    run_request::outcome how = run_request::outcome::late;
};

std::vector<asked_run> ask_all_runs() {
    std::vector<asked_run> asked;
    detail::for_each_counted_run([&](run_counters& c) {
        if (!c.is_on())
            return;
        asked_run& one = asked.emplace_back();
        one.whose = &c;
        one.run = c.runs;
        one.answer = counting::post_to(*c.home);
    });
    return asked;
}

// With the mutex of the list held. A run that has begun since the others were asked has counted
// nothing yet.
run_statistics told_by(const run_counters& c) {
    const counted sum = c.with_past();
    run_statistics told;
    told.number = c.number;
    told.is_on = c.is_on();
    told.thread_name = c.thread_name.data();
    told.work = sum.work;
    told.tasks_alive = sum.tasks_alive;
    told.stalls = c.stalls().stalls;
    told.longest_stall = c.stalls().longest;
    told.more_names = c.more_names;
    told.more.assign(sum.more.begin(),
                     sum.more.begin() + static_cast<std::ptrdiff_t>(told.more_names.size()));
    if (told.is_on)
        told.thread_id = c.home->live.thread_id();
    return told;
}

void tell_as_stalled(run_statistics& told, const run_counters& c) {
    detail::run_snapshot shown;
    c.home->live.copy_to(shown);
    told.is_stalled = true;
    told.tasks_alive = shown.tasks;
    told.work.fibers_alive = shown.fibers;
    told.work.fibers_idle = shown.idle_fibers;
}

void add(process_statistics& all, run_statistics&& one) {
    all.runs_on += one.is_on ? 1U : 0U;
    all.runs_stalled += one.is_stalled ? 1U : 0U;
    all.tasks_alive += one.tasks_alive;
    all.stalls += one.stalls;
    all.longest_stall = std::max(all.longest_stall, one.longest_stall);
    // Gauges add up as well.
    const scheduler_statistics before = all.all;
    counted sum{before, 0, {}, 0};
    sum.add_counters_of({one.work, 0, {}, 0}, {});
    all.all = sum.work;
    all.all.fibers_alive += before.fibers_alive;
    all.all.fibers_idle += before.fibers_idle;
    all.all.timers_armed += before.timers_armed;
    all.all.peak_tasks = std::max(before.peak_tasks, one.work.peak_tasks);
    all.runs.push_back(std::move(one));
}

// All is told at one moment, behind the answers: so whichever thread asks, and however late a run
// has answered another one, no counter goes back.
process_statistics ask(duration patience) {
    std::vector<asked_run> asked = ask_all_runs();
    for (asked_run& one : asked)
        one.how = one.answer->await(patience);
    process_statistics all;
    detail::for_each_counted_run([&](run_counters& c) {
        const auto one = std::find_if(asked.begin(), asked.end(), [&c](const asked_run& a) {
            return a.whose == &c && a.run == c.runs && c.is_on();
        });
        if (one != asked.end() && one->how == run_request::outcome::done)
            c.keep(one->answer->now);
        run_statistics told = told_by(c);
        if (one != asked.end() && one->how == run_request::outcome::late)
            tell_as_stalled(told, c);
        add(all, std::move(told));
    });
    return all;
}

} // namespace

process_statistics all_statistics(saturating_duration patience) {
    process_statistics all;
    detail::on_asking_thread("the statistics of all runs", [&] { all = ask(patience); });
    return all;
}

} // namespace creel
