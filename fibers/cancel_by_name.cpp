#include <creel/fibers/cancel_by_name.hpp>

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/inspect/asking_thread.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/inspect/run_call.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/task/task_tree.hpp>

#include <exception>
#include <new>
#include <string>
#include <vector>

namespace creel {

namespace {

using detail::fiber_record;
using detail::nursery_core;
using detail::parker;
using detail::scheduler;
using detail::task_record;

// On the run's thread. First it finds the nurseries, then it cancels them: a cancel may end tasks
// that have not started, which changes the tree, but no nursery ends before its fiber goes on.
struct cancelling {
    void operator()(scheduler& s) noexcept {
        try {
            for (nursery_core* const n : found_in(s)) {
                if (n->scope.cancel_called())
                    continue;
                n->scope.cancel(reason);
                ++cancelled;
            }
        } catch (const std::bad_alloc&) {
            had_no_memory = true;
        }
    }

    [[nodiscard]] std::vector<nursery_core*> found_in(scheduler& s) const {
        std::vector<nursery_core*> found;
        const auto look_at = [&](const parker& p) {
            for (const detail::scope_core* c = p.outermost; c != nullptr; c = c->inner)
                if (c->nursery != nullptr && c->nursery->name == name)
                    found.push_back(c->nursery);
        };
        const auto look_below = [&](const parker& p) {
            look_at(p);
            detail::for_each_task(p, [&](const task_record& t, std::size_t) {
                if (t.runner != nullptr)
                    look_at(*t.runner);
            });
        };
        look_below(s.main());
        s.for_each_native([&](const fiber_record& f) { look_below(f); });
        return found;
    }

    std::string name{};
    std::string reason{};
    std::size_t cancelled = 0;
    bool had_no_memory = false;
};
using cancelling_call = detail::run_call<cancelling>;

named_cancel cancel_in_all_runs(std::string_view name, std::string_view reason, duration patience) {
    std::vector<cancelling_call::pointer> posted;
    detail::for_each_run([&](scheduler& s) {
        posted.emplace_back();
        posted.back() = cancelling_call::post(s, {std::string{name}, std::string{reason}});
    });
    const time_point deadline = deadline_after(clock::now(), patience);
    named_cancel answer;
    bool had_no_memory = false;
    for (const cancelling_call::pointer& call : posted) {
        if (!call->await(deadline)) {
            ++answer.runs_late;
            continue;
        }
        answer.nurseries += call->work.cancelled;
        had_no_memory = had_no_memory || call->work.had_no_memory;
    }
    if (had_no_memory)
        throw std::bad_alloc{};
    return answer;
}

} // namespace

named_cancel cancel_nurseries(std::string_view name, std::string_view reason,
                              saturating_duration patience) {
    named_cancel answer;
    detail::on_asking_thread("a cancel of nurseries by name",
                             [&] { answer = cancel_in_all_runs(name, reason, patience); });
    return answer;
}

} // namespace creel
