#include <creel/fibers/stack_use.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/stack/stack_meter.hpp>
#include <creel/fibers/detail/task/task_tree.hpp>

#include <algorithm>

namespace creel {

std::vector<stack_use> stack_uses() {
    detail::scheduler* s = detail::scheduler::current();
    CREEL_ASSERT(s != nullptr, "stack_uses() needs a running scheduler: call it inside io::run");
    const detail::stack_meter* ended = s->meter();
    CREEL_ASSERT(ended != nullptr,
                 "stack_uses() needs a run that measures: io::run({.measure_stacks = true}, f), or "
                 "debug mode");
    detail::stack_meter meter = *ended;
    const auto measure = [&meter](const detail::task_record& t, std::size_t) {
        if (t.runner != nullptr)
            meter.measure_living(t, t.runner->stack);
    };
    detail::for_each_task(s->main(), measure);
    s->for_each_native(
        [&measure](const detail::fiber_record& f) { detail::for_each_task(f, measure); });
    std::vector<stack_use> result;
    for (const auto& [site, use] : meter.uses())
        result.push_back(use);
    const auto share = [](const stack_use& use) {
        return static_cast<double>(use.most_bytes) / static_cast<double>(use.stack_bytes);
    };
    std::stable_sort(
        result.begin(), result.end(),
        [&share](const stack_use& a, const stack_use& b) { return share(a) > share(b); });
    return result;
}

std::string to_string(const stack_use& use) {
    std::string text = use.name;
    if (!text.empty())
        text += ' ';
    text += "(spawned at ";
    text += use.spawned_at.file_name();
    text += ':' + std::to_string(use.spawned_at.line()) + "): " + std::to_string(use.most_bytes) +
            " of " + std::to_string(use.stack_bytes) + " bytes, the most of " +
            std::to_string(use.tasks) + (use.tasks == 1 ? " task" : " tasks");
    return text;
}

} // namespace creel
