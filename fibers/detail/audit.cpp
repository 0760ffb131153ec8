#include <creel/fibers/detail/audit.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/scheduler.hpp>
#include <creel/fibers/detail/text.hpp>
#include <creel/fibers/task_info.hpp>

#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <typeinfo>

namespace creel::detail {

std::string name_of(const parker& who) noexcept {
    if (who.home == nullptr)
        return "a plain thread"; // short: allocates nothing
    if (who.home != this_scheduler)
        return "another's fiber";
    const auto& f = static_cast<const fiber_record&>(who);
    try {
        if (const task* t = f.current)
            return escaped(to_string(task_info{t->id, std::string{t->name()}, t->spawned_at}));
        return (f.what == fiber_record::fiber_kind::main ? "main (#" : "a Boost fiber (#") +
               std::to_string(f.id) + ')';
    } catch (const std::bad_alloc&) {
        return "a fiber";
    }
}

std::string name_of_waiting(const waiter& w) noexcept {
    return name_of(scheduler::owner_of(w));
}

namespace {

std::string text_of(const cancel_reason& why) noexcept {
    try {
        return escaped(why.text);
    } catch (const std::bad_alloc&) {
        return "no memory"; // allocates nothing
    }
}

// True inside `catch (const cancelled&)`, or a `catch (...)` that has caught one. A wait there that
// throws again only replaces the exception.
bool is_handling_cancelled() noexcept {
    const std::type_info* type = abi::__cxa_current_exception_type();
    return type != nullptr && (*type == typeid(cancelled) || *type == typeid(partial_cancelled));
}

std::terminate_handler next_terminate = nullptr; // written once

[[noreturn]] void terminate_by_name() noexcept {
    if (is_handling_cancelled() && this_scheduler != nullptr)
        std::fprintf(stderr,
                     "creel: debug: `cancelled` left a destructor or another noexcept function in "
                     "%s, which ends the process: wait under creel::shield there\n",
                     name_of(this_scheduler->running()).c_str());
    if (next_terminate != nullptr)
        next_terminate();
    std::abort();
}

} // namespace

bool debug_is_in_environment() noexcept {
    const char* value = std::getenv("CREEL_DEBUG"); // NOLINT(concurrency-mt-unsafe): as all do
    return value != nullptr && std::string_view{value} == "1";
}

void name_unhandled_cancels() noexcept {
    static std::once_flag once;
    std::call_once(once, [] { next_terminate = std::set_terminate(&terminate_by_name); });
}

// A fiber that has been thrown `cancelled` for a scope leaves that scope, or ends. If it waits
// again instead, and so is thrown it again, it has caught the first and gone on. What tells a
// second throw from a first is reset where the scope is left; cleanup that waits while unwinding
// does not come here, for it does not see that scope.
void scheduler::about_to_throw_cancelled(const cancel_scope* absorber) noexcept {
    fiber_record& self = *current_;
    const std::uint64_t id = number_of(self);
    if (self.thrown_for != absorber || self.thrown_in != id || absorber == nullptr) {
        self.thrown_for = absorber;
        self.thrown_in = id;
        self.swallow_reported = false;
        return;
    }
    if (is_handling_cancelled())
        return;
    ++counters_.cancels_swallowed;
    if (!options_.debug || self.swallow_reported)
        return;
    self.swallow_reported = true;
    std::fprintf(stderr,
                 "creel: debug: %s swallowed `cancelled` (%s) and waits again: rethrow it after "
                 "cleaning up, or let it pass\n",
                 name_of(self).c_str(), text_of(*absorber->reason()).c_str());
}

} // namespace creel::detail
