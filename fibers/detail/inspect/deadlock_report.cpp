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

deadlock_report report_of(std::vector<const fiber_record*> cycle, time_point now) {
    // The same cycle is told in the same way, wherever the search has met it.
    std::rotate(cycle.begin(),
                std::min_element(cycle.begin(), cycle.end(),
                                 [](const fiber_record* a, const fiber_record* b) {
                                     return number_of(*a) < number_of(*b);
                                 }),
                cycle.end());
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

deadlock_report report_of_all(scheduler& run) {
    std::vector<fiber_snapshot> members;
    std::string lines;
    std::size_t more = 0;
    const auto add = [&](const task_record* t, const fiber_record* f, std::size_t depth) {
        if (members.size() == most_fibers_told) {
            ++more;
            return;
        }
        fiber_snapshot& m = members.emplace_back();
        m.depth = depth;
        copy_identity(m, t, f);
        lines += "\n  " + name_of_fiber(m);
        if (f == nullptr) {
            m.state = t->in_line ? fiber_state::in_line : fiber_state::not_started;
            lines += m.state == fiber_state::in_line ? " waits for one of max_fibers to end"
                                                     : " has not started";
            return;
        }
        copy_fiber(m, *f, run.now());
        copy_frames(m, *f, most_frames_told);
        if (m.state == fiber_state::parked)
            lines += " waits for " + m.waits_for + m.details;
        else if (t != nullptr)
            m.state = fiber_state::ready; // in the background
        else
            m.state = fiber_state::elsewhere;
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
    deadlock_report report;
    report.summary = "deadlock: every fiber waits, and nothing can wake one";
    const std::string rest =
        more != 0 ? "  and " + std::to_string(more) + " more\n" : std::string{};
    report.text =
        "creel: " + report.summary + ": there is no timer, no operation and no other thread\n";
    const std::string with_backtraces = text_with_names(members);
    report.text += (with_backtraces.empty() ? lines.substr(1) + '\n' : with_backtraces) + rest;
    report.summary += lines;
    return report;
}

} // namespace creel::detail
