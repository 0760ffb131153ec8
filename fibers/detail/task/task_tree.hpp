// The walk over all tasks below a fiber, parents before their children.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/run/fiber_record.hpp>

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace creel::detail {

// visit(const task_record&, std::size_t depth) neither spawns nor ends a task. If it returns a
// bool, false ends the walk. The walk is iterative, because it is called when the program is in
// trouble, on the small stack of some fiber. Throws: std::bad_alloc, what visit throws.
template <typename Visit>
void for_each_task(const parker& root, Visit visit) {
    struct siblings {
        const task_record* next;
        std::size_t depth;
    };
    std::vector<siblings> stack;
    const auto push_nurseries = [&stack](const parker& p, std::size_t depth) {
        const std::size_t outside = stack.size();
        for (const scope_core* s = p.outermost; s != nullptr; s = s->inner)
            if (const nursery_core* n = s->nursery)
                stack.push_back({n->first_child, depth});
        std::reverse(stack.begin() + static_cast<std::ptrdiff_t>(outside), stack.end());
    };
    push_nurseries(root, 0); // its outermost nursery is visited first
    while (!stack.empty()) {
        const task_record* t = stack.back().next;
        if (t == nullptr) {
            stack.pop_back();
            continue;
        }
        stack.back().next = t->next;
        const std::size_t depth = stack.back().depth;
        if constexpr (std::is_same_v<decltype(visit(*t, depth)), bool>) {
            if (!visit(*t, depth))
                return;
        } else {
            visit(*t, depth);
        }
        if (t->runner != nullptr)
            push_nurseries(*t->runner, depth + 1);
    }
}

} // namespace creel::detail
