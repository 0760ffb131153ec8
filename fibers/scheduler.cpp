#include <creel/fibers/scheduler.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/blocking_pool.hpp>
#include <creel/fibers/detail/scheduler.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace creel {

namespace {

constexpr std::size_t deepest_indent = 32;

struct listed {
    const detail::task* next; // of a nursery's children
    std::size_t depth;
};

void begin_line(std::string& text, std::size_t depth) {
    text.append(2 * std::min(depth, deepest_indent), ' ');
}

// Puts the nurseries that a fiber has open on the stack, the innermost first, so that the outermost
// is listed first.
void push_nurseries(const detail::parker& who, std::size_t depth, std::vector<listed>& stack) {
    for (const cancel_scope* s = who.scope; s != nullptr && detail::scope_access::owner(*s) == &who;
         s = detail::scope_access::parent(*s))
        if (const detail::nursery_core* n = detail::scope_access::nursery(*s))
            stack.push_back({n->first_child, depth});
}

void list_task(const detail::task& t, std::size_t depth, std::string& text) {
    begin_line(text, depth);
    text += to_string(task_info{t.id, t.name, t.spawned_at});
    if (!t.home->name.empty()) {
        text += " in ";
        text += t.home->name;
    }
    if (t.runner == nullptr) {
        text += " has not started";
    } else if (const waiter* w = t.runner->waiting_on) {
        text += " waits for ";
        w->kind().describe(*w, text);
    } else {
        text += t.runner == &t.runner->home->running() ? " runs" : " is ready";
    }
    text += '\n';
}

// Iterative, for it is called when things are bad, on the small stack of some fiber.
void list_tasks(const detail::parker& root, std::string& text) {
    std::vector<listed> stack;
    push_nurseries(root, 0, stack);
    while (!stack.empty()) {
        const detail::task* t = stack.back().next;
        if (t == nullptr) {
            stack.pop_back();
            continue;
        }
        stack.back().next = t->next;
        const std::size_t depth = stack.back().depth;
        list_task(*t, depth, text);
        if (t->runner != nullptr)
            push_nurseries(*t->runner, depth + 1, stack);
    }
}

} // namespace

scheduler_statistics statistics() noexcept {
    const detail::scheduler* s = detail::scheduler::current();
    CREEL_ASSERT(s != nullptr, "statistics() needs a running scheduler: call it inside io::run");
    return s->statistics();
}

std::string list_fibers() {
    detail::scheduler* s = detail::scheduler::current();
    CREEL_ASSERT(s != nullptr, "list_fibers() needs a running scheduler: call it inside io::run");
    std::string text;
    list_tasks(s->main(), text);
    return text;
}

bool on_scheduler() noexcept {
    return detail::scheduler::current() != nullptr;
}

void detail::run_on(poller& outside, const scheduler_options& options,
                    const std::function<void()>& body) {
    if (options.stack_bytes > most_stack_bytes)
        throw std::invalid_argument("stack_bytes of a run is " +
                                    std::to_string(options.stack_bytes) +
                                    "; a fiber's stack may have at most 1 GiB");
    const scheduler* home = nullptr;
    scheduler::run(outside, options, [&] {
        home = scheduler::current();
        body();
    });
    blocking_pool::shared().name_abandoned(*home);
}

} // namespace creel
