#include <creel/fibers/this_fiber.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <thread>

namespace creel {

namespace {

// A sleep waits for nothing but its own timer.
struct sleep_waiter : waiter {
    static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::withdrawn; }
    static void describe(const waiter&, std::string& text) { text += "a sleep"; }
    static constexpr waiter_kind kind{&withdraw, &describe};
    sleep_waiter() noexcept : waiter(kind) {}
};

void sleep(time_point deadline, duration span) {
    sleep_waiter w;
    if (park_until(w, deadline, span) == wake_reason::cancelled)
        throw_cancelled();
}

} // namespace

time_point now() noexcept {
    detail::scheduler* s = detail::scheduler::current();
    return s != nullptr ? s->now() : clock::now();
}

namespace this_fiber {

void yield() {
    detail::scheduler* s = detail::this_scheduler;
    if (s == nullptr || detail::may_be_cancelled(s->running())) [[unlikely]]
        check_cancel_only();
    if (s != nullptr) [[likely]]
        s->yield_or_poll();
    else
        std::this_thread::yield();
    if (s == nullptr || detail::may_be_cancelled(s->running())) [[unlikely]]
        check_cancel_only();
}

void checkpoint() {
    check_cancel();
    if (detail::scheduler* s = detail::this_scheduler)
        s->keep_time();
    check_cancel_only();
}

void sleep_for(saturating_duration d) {
    if (d <= duration{}) {
        yield();
        return;
    }
    check_cancel();
    sleep(deadline_after(d), d);
}

void sleep_until(saturating_time_point deadline) {
    if (deadline <= now()) {
        yield();
        return;
    }
    check_cancel();
    sleep(deadline, duration{});
}

std::uint64_t id() noexcept {
    detail::scheduler* s = detail::scheduler::current();
    if (s == nullptr)
        return 0;
    return detail::number_of(s->running());
}

std::string_view name() noexcept {
    detail::scheduler* s = detail::scheduler::current();
    if (s == nullptr)
        return {};
    const detail::fiber_record& f = s->running();
    if (f.current != nullptr)
        return f.current->name();
    return f.what == detail::fiber_record::fiber_kind::main ? "main" : "";
}

} // namespace this_fiber

} // namespace creel
