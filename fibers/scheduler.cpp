#include <creel/fibers/scheduler.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/scheduler.hpp>

#include <vector>

namespace creel {

namespace {

void list_children(const detail::nursery_core& n, std::size_t depth, std::string& text);

// The nurseries a fiber has open are among its own scopes, innermost first: list outermost first.
void list_nurseries(const detail::parker& who, std::size_t depth, std::string& text) {
    std::vector<const detail::nursery_core*> open;
    for (const cancel_scope* s = who.scope; s != nullptr; s = detail::scope_access::parent(*s)) {
        if (detail::scope_access::owner(*s) != &who)
            break;
        if (const detail::nursery_core* n = detail::scope_access::nursery(*s))
            open.push_back(n);
    }
    for (auto n = open.rbegin(); n != open.rend(); ++n)
        list_children(**n, depth, text);
}

void list_children(const detail::nursery_core& n, std::size_t depth, std::string& text) {
    for (const detail::task* t = n.first_child; t != nullptr; t = t->next) {
        text.append(2 * depth, ' ');
        text += to_string(task_info{t->id, t->name, t->spawned_at});
        if (t->runner == nullptr) {
            text += " has not started\n";
            continue;
        }
        if (const waiter* w = t->runner->waiting_on) {
            text += " waits for ";
            w->kind().describe(*w, text);
        } else {
            text += t->runner == &t->runner->home->running() ? " runs" : " is ready";
        }
        text += '\n';
        list_nurseries(*t->runner, depth + 1, text);
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
    list_nurseries(s->main(), 0, text);
    return text;
}

bool on_scheduler() noexcept {
    return detail::scheduler::current() != nullptr;
}

void detail::run_on(poller& outside, const scheduler_options& options,
                    const std::function<void()>& body) {
    scheduler::run(outside, options, body);
}

} // namespace creel
