#include <creel/fibers/scheduler.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/deadlock.hpp>
#include <creel/fibers/detail/blocking/blocking_pool.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/task/task_tree.hpp>

#include <algorithm>
#include <string>

namespace creel {

namespace {

constexpr std::size_t deepest_indent = 32;

void begin_line(std::string& text, std::size_t depth) {
    text.append(2 * std::min(depth, deepest_indent), ' ');
}

void add_state(const detail::fiber_record& f, std::string& text) {
    if (const waiter* w = f.waiting_on) {
        text += " waits for ";
        w->kind().describe(*w, text);
    } else {
        text += &f == &f.home->running() ? " runs" : " is ready";
    }
}

void list_task(const detail::task_record& t, std::size_t depth, std::string& text) {
    begin_line(text, depth);
    text += to_string(task_info{t.id, std::string{t.name()}, t.spawned_at});
    if (!t.parent->name.empty()) {
        text += " in ";
        text += t.parent->name;
    }
    if (t.runner != nullptr)
        add_state(*t.runner, text);
    else if (t.in_line)
        text += " has not started: it waits for one of the " +
                std::to_string(t.parent->opener->home->max_fibers()) + " fibers to end";
    else
        text += " has not started";
    text += '\n';
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
    std::string text{"main"};
    add_state(s->main(), text);
    text += '\n';
    const auto list = [&text](const detail::task_record& t, std::size_t depth) {
        list_task(t, depth, text);
    };
    detail::for_each_task(s->main(), list);
    s->for_each_native([&](const detail::fiber_record& f) {
        if (f.waiting_on == nullptr && f.outermost == nullptr)
            return; // it is in no creel call
        text += "Boost fiber #" + std::to_string(f.id);
        add_state(f, text);
        text += '\n';
        detail::for_each_task(
            f, [&list](const detail::task_record& t, std::size_t depth) { list(t, depth + 1); });
    });
    return text;
}

bool on_scheduler() noexcept {
    return detail::scheduler::current() != nullptr;
}

bool in_debug_mode() noexcept {
    CREEL_ASSERT(on_scheduler(), "in_debug_mode() is called on a thread with a scheduler");
    return detail::scheduler::current()->debug();
}

namespace {

bool is_cancel(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const cancelled&) {
        return true;
    } catch (const task_cancelled&) {
        return true;
    } catch (...) {
        return false;
    }
}

} // namespace

void detail::run_on(poller& outside, const scheduler_options& options,
                    const std::function<void()>& body, const std::exception_ptr& error) {
    check_stack_bytes(options.stack_bytes, "a run");
    const scheduler* home = nullptr;
    std::string found;
    on_living_thread([&] {
        found = scheduler::run(outside, options, [&] {
            home = scheduler::current();
            body();
        });
    });
    blocking_pool::shared().name_abandoned(*home);
    if (!found.empty() && (error == nullptr || is_cancel(error)))
        throw deadlock{found};
}

} // namespace creel
