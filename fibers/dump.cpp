#include <creel/fibers/dump.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/detail/inspect/dump.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/waiter.hpp>

#include <exception>
#include <ostream>
#include <string>
#include <system_error>
#include <utility>

#include <pthread.h>

namespace creel {

namespace {

// A fiber waits for the thread that makes its dump.
struct dump_waiter : waiter {
    explicit dump_waiter(const dump_options& wanted) : waiter(kind), options(wanted) {}

    static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
    static void describe(const waiter&, std::string& text) { text += "a dump of all fibers"; }
    static constexpr waiter_kind kind{&withdraw, &describe, false};

    // On the helper thread.
    static void* make(void* self) noexcept {
        auto& w = *static_cast<dump_waiter*>(self);
        detail::leave_pinned_core();
        try {
            w.text = detail::make_dump(w.options);
        } catch (...) {
            w.error = std::current_exception();
        }
        wake(w);
        return nullptr;
    }

    const dump_options& options;
    std::string text{};
    std::exception_ptr error{};
};

// The thread of a fiber must go on to answer, and a fiber's stack may be too small for this. So a
// thread of its own makes the dump; not one of blocking(), which may all be stuck.
std::string dump_for_fiber(const dump_options& options) {
    dump_waiter me{options};
    pthread_t thread{};
    if (const int error = detail::start_joinable_helper_thread(thread, &dump_waiter::make, &me);
        error != 0)
        throw std::system_error(error, std::generic_category(), "thread for a dump of fibers");
    static_cast<void>(park(me));
    ::pthread_join(thread, nullptr); // it has nothing left to do: this hardly waits
    if (me.error)
        std::rethrow_exception(me.error);
    return std::move(me.text);
}

} // namespace

void dump_fibers(std::ostream& out, const dump_options& options) {
    out << (detail::scheduler::current() != nullptr ? dump_for_fiber(options)
                                                    : detail::make_dump(options));
}

void dump_fibers(std::ostream& out, dump_format format) {
    dump_fibers(out, dump_options{.format = format});
}

} // namespace creel
