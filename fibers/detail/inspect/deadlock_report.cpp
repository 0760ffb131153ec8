#include <creel/fibers/detail/inspect/deadlock_report.hpp>

#include <creel/fibers/detail/inspect/dump.hpp>
#include <creel/fibers/detail/inspect/fiber_copy.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/task/task_tree.hpp>

#include <algorithm>
#include <cstddef>

namespace creel::detail {

namespace {

constexpr std::size_t most_fibers_told = 32;
constexpr std::size_t most_frames_told = 16;

// Names need more stack than the dispatcher of Boost has.
std::string text_with_names(const std::vector<fiber_snapshot>& fibers) {
    return made_elsewhere([fibers] { return text_of_fibers(fibers); });
}

// `f` waits for `next`, which may be a fiber below its children.
fiber_snapshot copy_member(const fiber_record& f, const fiber_record& next, time_point now) {
    fiber_snapshot copy;
    copy_identity(copy, f.current, &f);
    copy_fiber(copy, f, now);
    copy_frames(copy, f, most_frames_told);
    fiber_snapshot other;
    copy_identity(other, next.current, &next);
    const std::string name = name_of_fiber(other);
    if (copy.held_by == number_of(next))
        copy.holder = name;
    else if (copy.waits_for.find(name) == std::string::npos)
        copy.details += ", and so for " + name;
    return copy;
}

} // namespace

deadlock_report report_of(const std::vector<const fiber_record*>& cycle, time_point now) {
    std::vector<fiber_snapshot> members;
    std::string lines;
    for (std::size_t i = 0; i < std::min(cycle.size(), most_fibers_told); ++i) {
        members.push_back(copy_member(*cycle[i], *cycle[(i + 1) % cycle.size()], now));
        const fiber_snapshot& m = members.back();
        lines += "\n  " + name_of_fiber(m) + " waits for " + m.waits_for + m.details +
                 (m.held_by != 0 ? ", held by " + m.holder : "");
    }
    deadlock_report report;
    report.summary = "deadlock: " + (cycle.size() == 1 ? std::string{"a fiber waits for itself"}
                                                       : std::to_string(cycle.size()) +
                                                             " fibers wait for each other");
    const std::string rest = cycle.size() > members.size()
                                 ? "  and " + std::to_string(cycle.size() - members.size()) +
                                       " more between the last and the first\n"
                                 : std::string{};
    report.text = "creel: " + report.summary + ", and none of them can go on\n";
    const std::string with_backtraces = text_with_names(members);
    report.text += (with_backtraces.empty() ? lines.substr(1) + '\n' : with_backtraces) + rest;
    report.summary += lines;
    return report;
}

namespace {

// In a run that has come to a stop.
void copy_stopped(fiber_snapshot& to, const task_record* t, const fiber_record* f, time_point now) {
    copy_identity(to, t, f);
    if (f != nullptr) {
        copy_fiber(to, *f, now);
        copy_frames(to, *f, most_frames_told);
    } else {
        to.state = t->in_line ? fiber_state::in_line : fiber_state::not_started;
    }
}

std::string line_of(const fiber_snapshot& m) {
    const std::string name = "\n  " + name_of_fiber(m);
    switch (m.state) {
    case fiber_state::parked:
        return name + " waits for " + m.waits_for + m.details +
               (m.held_by != 0 ? ", held by " + m.holder : std::string{});
    case fiber_state::in_line:
        return name + " waits for one of max_fibers to end";
    case fiber_state::not_started:
        return name + " has not started";
    default:
        return name + " is ready or waits outside creel";
    }
}

void name_holders(std::vector<fiber_snapshot>& members) {
    for (fiber_snapshot& m : members) {
        const auto holder =
            std::find_if(members.begin(), members.end(),
                         [&m](const fiber_snapshot& other) { return other.who.id == m.held_by; });
        m.holder =
            holder != members.end() ? name_of_fiber(*holder) : '#' + std::to_string(m.held_by);
    }
}

} // namespace

deadlock_report report_of_all(scheduler& run, bool but_background) {
    std::vector<fiber_snapshot> members;
    std::size_t more = 0;
    const auto add = [&](const task_record* t, const fiber_record* f, std::size_t depth) {
        if (members.size() == most_fibers_told) {
            ++more;
            return;
        }
        fiber_snapshot& m = members.emplace_back();
        m.depth = depth;
        copy_stopped(m, t, f, run.now());
    };
    const auto add_task = [&add](const task_record& t, std::size_t depth) {
        add(&t, t.runner, depth + 1);
    };
    add(nullptr, &run.main(), 0);
    for_each_task(run.main(), add_task);
    run.for_each_native([&](const fiber_record& f) {
        add(nullptr, &f, 0);
        for_each_task(f, add_task);
    });
    name_holders(members);
    std::string lines;
    for (const fiber_snapshot& m : members)
        lines += line_of(m);
    deadlock_report report;
    report.summary = but_background ? "deadlock: only tasks in the background go on"
                                    : "deadlock: every fiber waits, and nothing can wake one";
    const std::string rest =
        more != 0 ? "  and " + std::to_string(more) + " more\n" : std::string{};
    report.text = "creel: " + report.summary +
                  (but_background ? ", and every other fiber waits\n"
                                  : ": there is no timer, no operation and no other thread\n");
    const std::string with_backtraces = text_with_names(members);
    report.text += (with_backtraces.empty() ? lines.substr(1) + '\n' : with_backtraces) + rest;
    report.summary += lines;
    return report;
}

} // namespace creel::detail
