#include <creel/fibers/detail/inspect/asking_thread.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/waiter.hpp>

#include <exception>
#include <string>
#include <system_error>

#include <pthread.h>

namespace creel::detail {

namespace {

// A fiber waits for the thread that asks.
struct asking_waiter : waiter {
    asking_waiter(const char* thing, const std::function<void()>& call)
        : waiter(kind), what(thing), f(call) {}

    static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
    static void describe(const waiter& self, std::string& text) {
        text += static_cast<const asking_waiter&>(self).what;
    }
    static constexpr waiter_kind kind{&withdraw, &describe, false};

    // On the helper thread.
    static void* ask(void* self) noexcept {
        auto& w = *static_cast<asking_waiter*>(self);
        leave_pinned_core();
        try {
            w.f();
        } catch (...) {
            w.error = std::current_exception();
        }
        wake(w);
        return nullptr;
    }

    const char* const what;
    const std::function<void()>& f;
    std::exception_ptr error{};
};

} // namespace

void on_asking_thread(const char* what, const std::function<void()>& f) {
    if (scheduler::current() == nullptr) {
        f();
        return;
    }
    asking_waiter me{what, f};
    pthread_t thread{};
    if (const int error = start_joinable_helper_thread(thread, &asking_waiter::ask, &me);
        error != 0)
        throw std::system_error(error, std::generic_category(), std::string{"thread for "} + what);
    static_cast<void>(park(me));
    ::pthread_join(thread, nullptr); // it has nothing left to do: this hardly waits
    if (me.error)
        std::rethrow_exception(me.error);
}

} // namespace creel::detail
