#include <creel/fibers/detail/cancel/audit.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/blocking/running_call.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/report/throw_walk.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/unwind/unwind.hpp>
#include <creel/fibers/fork_guard.hpp>
#include <creel/fibers/task_info.hpp>
#include <creel/fibers/wait_list.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

namespace creel::detail {

std::string name_of(const parker& p) noexcept {
    if (p.home == nullptr)
        return "a plain thread"; // short: allocates nothing
    if (p.home != this_scheduler)
        return "another's fiber";
    const auto& f = static_cast<const fiber_record&>(p);
    try {
        if (const task_record* t = f.current)
            return escaped(to_string(task_info{t->id, std::string{t->name()}, t->spawned_at}));
        return (f.what == fiber_record::fiber_kind::main ? "main (#" : "a Boost fiber (#") +
               std::to_string(f.id) + ')';
    } catch (const std::bad_alloc&) {
        return "a fiber";
    }
}

namespace {

std::string text_of(const cancel_reason& why) noexcept {
    try {
        return why.text.empty() ? "no reason was given" : escaped(why.text);
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

// True if the opener of this nursery awaits its children before it goes on with what it began in
// the scope `within`.
bool is_awaited_inside(const nursery_core& n, std::optional<scope_id> within) noexcept {
    if (n.joiner != nullptr || !within)
        return n.joiner != nullptr;
    const scope_core* s = &core_of(n.scope);
    do
        s = s->parent;
    while (s != nullptr && s != *within);
    return s == *within;
}

} // namespace

bool debug_is_in_environment() noexcept {
    const char* value = std::getenv("CREEL_DEBUG"); // NOLINT(concurrency-mt-unsafe): as all do
    return value != nullptr && std::string_view{value} == "1";
}

namespace {

// The last throws of `cancelled`, in debug mode. It would be no use to keep them beside the
// exception, as other throws are: a `cancelled` that leaves a noexcept function ends the process
// before it reaches a task's end.
struct noted_throw {
    std::uint64_t fiber = 0;
    std::size_t count = 0;
    std::array<code_address, most_frames_of_throw> frames{};
    std::weak_ptr<const void> life{}; // of the exception and its copies
    bool has_life = false;            // false without memory
};
constinit std::mutex cancelled_throws_mutex;
const fork_guard cancelled_throws_in_forks{cancelled_throws_mutex};
std::array<noted_throw, 64> cancelled_throws; // by number of the fiber; guarded by the mutex

noted_throw& noted_of(std::uint64_t fiber) noexcept {
    return cancelled_throws[fiber % cancelled_throws.size()];
}

// The same reason, for one exception: `life` lasts as long as the exception and its copies do.
// Without memory `life` stays empty.
std::shared_ptr<const cancel_reason>
reason_of_one(const std::shared_ptr<const cancel_reason>& reason,
              std::shared_ptr<const void>& life) noexcept {
    try {
        auto held = std::make_shared<const std::shared_ptr<const cancel_reason>>(reason);
        life = held;
        return {std::move(held), reason.get()};
    } catch (const std::bad_alloc&) {
        return reason;
    }
}

// The walk comes first: the lock is held for a copy only.
void note_cancelled_throw(std::uint64_t fiber, const std::shared_ptr<const void>& life) noexcept {
    std::array<code_address, most_frames_of_throw> frames;
    const std::size_t count = walk_throw(frames);
    std::weak_ptr<const void> mine = life;
    const std::lock_guard lock{cancelled_throws_mutex};
    noted_throw& last = noted_of(fiber);
    last.fiber = fiber;
    last.count = count;
    std::copy_n(frames.begin(), count, last.frames.begin());
    last.life.swap(mine); // the one before ends behind the lock
    last.has_life = life != nullptr;
}

// True if the last `cancelled` of this fiber is known to have ended. Else code has kept it, as in
// promise.set_exception(std::current_exception()), and another may learn of the cancel from it.
bool has_dropped_cancelled(std::uint64_t fiber) noexcept {
    const std::lock_guard lock{cancelled_throws_mutex};
    const noted_throw& last = noted_of(fiber);
    return last.fiber == fiber && last.has_life && last.life.expired();
}

} // namespace

std::string last_cancelled_throw(const parker& p, std::string_view indent) noexcept {
    const std::uint64_t fiber = number_of(static_cast<const fiber_record&>(p));
    std::vector<code_address> frames;
    try {
        const std::lock_guard lock{cancelled_throws_mutex};
        const noted_throw& last = noted_of(fiber);
        if (last.fiber == fiber)
            frames.assign(last.frames.begin(),
                          last.frames.begin() + static_cast<std::ptrdiff_t>(last.count));
    } catch (const std::bad_alloc&) {
    }
    return text_at_end(frames, indent);
}

// A fiber to which a wait has thrown `cancelled` for a scope leaves that scope, or ends. If it
// waits again instead, and the wait throws again, it has caught the first and gone on.
// scope_core::leave() resets thrown_for, which tells a second throw from a first. A cleanup that
// waits while the fiber unwinds does not come here, because it does not see that scope.
void audit_throw(parker& p, const scope_core* absorber) noexcept {
    auto& self = static_cast<fiber_record&>(p);
    const std::uint64_t id = number_of(self);
    if (self.thrown_for != absorber || self.thrown_in != id || absorber == nullptr) {
        self.thrown_for = absorber;
        self.thrown_in = id;
        self.swallow_reported = false;
        return;
    }
    if (is_handling_cancelled())
        return;
    self.home->count_swallowed_cancel();
    if (!self.home->debug() || self.swallow_reported || !has_dropped_cancelled(id))
        return;
    self.swallow_reported = true;
    std::fprintf(stderr,
                 "creel: debug: %s swallowed `cancelled` (%s) and waits again: rethrow it after "
                 "cleaning up, or let it pass\n",
                 name_of(self).c_str(), text_of(*absorber->own.reason).c_str());
}

std::shared_ptr<const cancel_reason>
reason_to_throw(parker& p, const std::shared_ptr<const cancel_reason>& reason) noexcept {
    auto& self = static_cast<fiber_record&>(p);
    if (!self.home->debug()) [[likely]]
        return reason;
    std::shared_ptr<const void> life;
    std::shared_ptr<const cancel_reason> result = reason_of_one(reason, life);
    note_cancelled_throw(number_of(self), life);
    return result;
}

// The scopes of thrown_for that the task has entered itself have reset it when it left them. So its
// nursery's scope is left, or one further out. A destructor of the normal path that waits, and
// catches what the wait throws, looks the same as a body that was cut short: hence the "if".
void audit_end(parker& p, bool returned) noexcept {
    auto& self = static_cast<fiber_record&>(p);
    const scope_core* const absorber = std::exchange(self.thrown_for, nullptr);
    if (absorber == nullptr || !returned || self.thrown_in != number_of(self) ||
        !self.home->debug() || self.swallow_reported || !has_dropped_cancelled(self.thrown_in))
        return;
    std::fprintf(stderr,
                 "creel: debug: %s caught `cancelled` (%s) and returned normally: if that cut its "
                 "work short, rethrow it after cleaning up, or let it pass\n",
                 name_of(self).c_str(), text_of(*absorber->own.reason).c_str());
}

namespace {

// On a helper thread. The caller of blocking() waits for the call, and still holds what it has
// locked and begun.
void name_wait_for_caller(const wait_label& what, party_number by) noexcept {
    const debugged_call call = this_debugged_call();
    if (call.record != nullptr && call.caller == by)
        std::fprintf(stderr,
                     "creel: debug: the blocking call%s%s%s at %s:%u waits for %s made at %s:%u, "
                     "and so for its caller, which waits for the call: only a cancel can end that; "
                     "let go of it before the call, or leave it alone inside\n",
                     call.record->name.empty() ? "" : " \"", call.record->name.c_str(),
                     call.record->name.empty() ? "" : "\"", call.record->where.file_name(),
                     static_cast<unsigned>(call.record->where.line()), what.what,
                     what.made_at.file_name(), static_cast<unsigned>(what.made_at.line()));
}

} // namespace

#if defined(_GLIBCXX_HAVE_TLS)

// While std::call_once calls its function, libstdc++ keeps the address of an object of that call in
// a thread_local of its own. The object lies on the stack of the fiber that made the call.
void scheduler::name_wait_in_call_once() noexcept {
    const auto* const called = static_cast<const std::byte*>(std::__once_callable);
    const fiber_record& self = *current_;
    if (called == nullptr || called == call_once_around_run_ || told_of_call_once_ ||
        std::less<>{}(called, self.stack_bottom) ||
        !std::less<>{}(called, self.stack_bottom + self.stack_bytes))
        return;
    told_of_call_once_ = true;
    std::fprintf(stderr,
                 "creel: debug: %s waits inside the function of a std::call_once: the next fiber "
                 "that comes to that call blocks its thread, and all fibers of it; use "
                 "creel::sync::once\n",
                 name_of(self).c_str());
}

void scheduler::look_for_call_once() noexcept {
    call_once_around_run_ = static_cast<const std::byte*>(std::__once_callable);
    told_of_call_once_ = false;
}

#else

void scheduler::name_wait_in_call_once() noexcept {}
void scheduler::look_for_call_once() noexcept {}

#endif

} // namespace creel::detail

namespace creel {

std::string name_of_waiting(const waiter& w) noexcept {
    return detail::name_of(detail::scheduler::owner_of(w));
}

scope_id this_scope() noexcept {
    return detail::this_parker().scope;
}

void warn_if_ancestor_waits(const wait_label& what, party_number by, std::optional<scope_id> within,
                            const char* remedy) noexcept {
    using namespace detail;
    scheduler* const s = this_scheduler;
    if (s == nullptr) {
        name_wait_for_caller(what, by);
        return;
    }
    if (!s->debug()) [[likely]]
        return;
    const fiber_record* f = &s->running();
    while (const task_record* t = f->current) {
        const nursery_core& n = *t->parent;
        f = static_cast<const fiber_record*>(n.opener);
        if (number_of(*f) != by)
            continue;
        if (is_awaited_inside(n, within))
            std::fprintf(stderr,
                         "creel: debug: %s waits for %s made at %s:%u, and so for %s above it, "
                         "which waits for its children: only a cancel can end that; %s\n",
                         name_of(s->running()).c_str(), what.what, what.made_at.file_name(),
                         static_cast<unsigned>(what.made_at.line()), name_of(*f).c_str(), remedy);
        return;
    }
}

} // namespace creel
