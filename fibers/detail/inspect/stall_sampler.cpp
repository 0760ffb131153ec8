#include <creel/fibers/detail/inspect/stall_sampler.hpp>

#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/inspect/running_fiber.hpp>
#include <creel/fibers/detail/inspect/stall_cause.hpp>
#include <creel/fibers/detail/inspect/thread_backtrace.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/system/valgrind.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <span>
#include <utility>

namespace creel::detail {

namespace {

using std::chrono::milliseconds;

constexpr int looks_in_threshold = 4;
constexpr duration shortest_interval = milliseconds{1};
constexpr duration longest_interval = std::chrono::seconds{1};
constexpr duration usual_delay = milliseconds{10}; // of a thread that wakes

constexpr duration shortest_between_reports = std::chrono::seconds{1}; // of one run
constexpr unsigned most_reports_a_minute = 10;                         // of the process
constexpr std::size_t most_frames = 16;

duration interval_for(duration threshold) noexcept {
    return std::clamp(threshold / looks_in_threshold, shortest_interval, longest_interval);
}

} // namespace

std::string stall_sampler::look(time_point t) {
    const bool is_late =
        next_look_ != time_point::max() && t > next_look_ + interval_ + usual_delay;
    // Without memory for this look there is a next one, and not at once.
    next_look_ = t + longest_interval;
    std::vector<sample> samples;
    for_each_run([&samples](scheduler& s) {
        if (const stall_watch_options* how = s.live.watched())
            samples.push_back({&s, s.run_number(), s.live.thread_id(), s.progress(), *how});
    });
    for (watched_run& w : watched_)
        w.is_there = false;
    interval_ = longest_interval;
    for (const sample& s : samples) {
        look_at(s, t, is_late);
        interval_ = std::min(interval_, interval_for(s.options.threshold));
    }
    for (watched_run& w : watched_)
        if (!w.is_there)
            end_stall(w, t, "switches fibers again");
    std::erase_if(watched_, [](const watched_run& w) { return !w.is_there; });
    next_look_ = watched_.empty() ? time_point::max() : t + interval_;
    return std::exchange(text_, {});
}

std::string stall_sampler::end(time_point t) {
    for (watched_run& w : watched_)
        end_stall(w, t, "switches fibers again");
    watched_.clear();
    return std::exchange(text_, {});
}

void stall_sampler::look_at(const sample& now, time_point t, bool is_late) {
    const auto known = std::find_if(watched_.begin(), watched_.end(), [&](const watched_run& w) {
        return w.seen.run == now.run && w.seen.run_number == now.run_number;
    });
    if (known == watched_.end()) {
        watched_.push_back({.seen = now, .seen_at = t});
        return;
    }
    watched_run& w = *known;
    w.is_there = true;
    const bool moves = now.progress.is_excused() || now.progress != w.seen.progress;
    if (moves) // a poll shows when, to within one look; after a switch or a sleep there may be none
        end_stall(w, now.progress.last_poll > w.seen_at ? std::min(now.progress.last_poll, t) : t,
                  now.progress.reports ? "is held up by a report of creel"
                                       : "switches fibers again");
    if (moves || (is_late && !w.is_stalled)) {
        begin_count(w, now, t);
    } else if (!w.is_told) {
        if (++w.unchanged == 1)
            w.times = processor_time_of(now.thread_id);
        if (w.is_stalled ||
            (w.unchanged >= looks_in_threshold && t - w.seen_at >= now.options.threshold))
            look_at_stalled(w, now, t);
    }
}

void stall_sampler::begin_count(watched_run& w, const sample& now, time_point t) {
    w.seen = now;
    w.seen_at = t;
    w.unchanged = 0;
}

void stall_sampler::look_at_stalled(watched_run& w, const sample& now, time_point t) {
    if (w.is_stalled)
        count(w, 0, t - w.seen_at);
    const bool may = may_tell(w, t);
    if (w.is_stalled && !may)
        return;
    const thread_sample thread = sample_of(now.thread_id); // before a signal changes it
    // Valgrind runs one thread at a time, and the others wait for it in the kernel.
    if (thread.state == 't' || thread.state == 'T' || is_traced(now.thread_id) ||
        under_valgrind()) {
        end_stall(w, t, "switches fibers again");
        begin_count(w, now, t);
        return;
    }
    const running_fiber fiber = running_fiber_of(*now.run);
    if (now.run->progress() != w.seen.progress)
        return; // it moves
    if (!w.is_stalled)
        count(w, 1, t - w.seen_at);
    w.is_stalled = true;
    if (!may)
        return;
    const stall_cause why = cause_of_stall(now.thread_id, thread, w.times, now.options);
    w.who = "thread " + std::to_string(now.thread_id) + " \"" +
            escaped(name_of_thread(now.thread_id)) + '"';
    w.fiber = to_text(fiber);
    tell(w, t, why);
}

bool stall_sampler::may_tell(const watched_run& w, time_point t) noexcept {
    if (w.told_at != time_point::min() && t - w.told_at < shortest_between_reports)
        return false;
    if (minute_began_ == time_point::min() || t - minute_began_ >= std::chrono::minutes{1}) {
        minute_began_ = t;
        told_in_minute_ = 0;
    }
    return told_in_minute_ < most_reports_a_minute;
}

// The text is added as a whole: without memory for it there is a report at the next look.
void stall_sampler::tell(watched_run& w, time_point t, const stall_cause& why) {
    std::string text;
    if (left_out_ != 0)
        text += "creel: " + std::to_string(left_out_) + (left_out_ == 1 ? " stall" : " stalls") +
                " before this one had no report: there were too many\n";
    text += "creel: " + w.who + " has not switched fibers for " + to_text(t - w.seen_at) + ": " +
            w.fiber + ' ' + why.does + '\n';
    std::vector<code_address> frames(most_frames);
    frames.resize(backtrace_of(w.seen.thread_id, frames));
    text += text_of_backtrace(frames, "      ");
    if (!why.remedy.empty())
        text += "  " + why.remedy + '\n';
    text_ += text;
    left_out_ = 0;
    ++told_in_minute_;
    w.told_at = t;
    w.is_told = true;
}

// The run may have ended since it was sampled, and its scheduler may have another run.
void stall_sampler::count(const watched_run& w, std::uint64_t stalls, duration length) {
    for_each_run([&](scheduler& s) {
        if (&s == w.seen.run && s.run_number() == w.seen.run_number)
            s.live.stalled(stalls, length);
    });
}

// If it was told that the run has stalled, it is told when it has not, also if a debugger has held
// it since.
void stall_sampler::end_stall(watched_run& w, time_point end, std::string_view does) {
    if (!w.is_stalled)
        return;
    const duration length = end - w.seen_at;
    if (w.is_told)
        text_ += ("creel: " + w.who + ' ').append(does) + ", after " + to_text(length) + ": " +
                 w.fiber + " held it up\n";
    else
        ++left_out_;
    count(w, 0, length);
    w.is_stalled = false;
    w.is_told = false;
}

} // namespace creel::detail
