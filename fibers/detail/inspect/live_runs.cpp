#include <creel/fibers/detail/inspect/live_runs.hpp>

#include <creel/fibers/detail/inspect/snapshot.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <mutex>

#include <unistd.h>

namespace creel::detail {

namespace {

constinit std::mutex live_runs_mutex;
scheduler* oldest_live_run = nullptr; // guarded by the mutex
scheduler* newest_live_run = nullptr; // likewise

// The runs are the parent's.
void forget_runs_of_parent() noexcept {
    oldest_live_run = nullptr;
    newest_live_run = nullptr;
    run_counters::forget_all();
}

const fork_guard live_runs_in_forks{live_runs_mutex, &forget_runs_of_parent};

} // namespace

void list_run(scheduler& s) noexcept {
    const std::lock_guard lock{live_runs_mutex};
    s.live.thread_id_.store(::gettid(), std::memory_order_relaxed); // the mutex orders it
    s.live.stalls_.store(0, std::memory_order_relaxed);             // run_counters has those before
    s.live.longest_stall_.store(0, std::memory_order_relaxed);
    s.live.next_ = nullptr;
    s.live.previous_ = newest_live_run;
    (newest_live_run != nullptr ? newest_live_run->live.next_ : oldest_live_run) = &s;
    newest_live_run = &s;
    run_counters::begin(s);
}

void unlist_run(scheduler& s) noexcept {
    const std::lock_guard lock{live_runs_mutex};
    run_counters::end(s);
    live_run& l = s.live;
    (l.previous_ != nullptr ? l.previous_->live.next_ : oldest_live_run) = l.next_;
    (l.next_ != nullptr ? l.next_->live.previous_ : newest_live_run) = l.previous_;
}

void watch_run(scheduler& s, const stall_watch_options* how) noexcept {
    const std::lock_guard lock{live_runs_mutex};
    s.live.watched_ = how;
}

void for_each_run(const std::function<void(scheduler&)>& visit) {
    const std::lock_guard lock{live_runs_mutex};
    for (scheduler* s = oldest_live_run; s != nullptr; s = s->live.next_)
        visit(*s);
}

void for_each_counted_run(const std::function<void(run_counters&)>& visit) {
    const std::lock_guard lock{live_runs_mutex};
    run_counters::for_each(visit);
}

void live_run::copy_to(run_snapshot& s) const {
    s.thread_id = thread_id_.load(std::memory_order_relaxed);
    s.last_poll = time_point{time_point::duration{last_poll_.load(std::memory_order_relaxed)}};
    s.tasks = tasks_.load(std::memory_order_relaxed);
    s.fibers = fibers_.load(std::memory_order_relaxed);
    s.idle_fibers = idle_fibers_.load(std::memory_order_relaxed);
}

} // namespace creel::detail
