#include <creel/fibers/detail/system/thread_end.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/report/pending_fibers.hpp>
#include <creel/fibers/detail/run/forked_run.hpp>
#include <creel/fibers/detail/run/parker.hpp>
#include <creel/fibers/local.hpp>
#include <creel/fibers/scheduler.hpp>

#include <boost/fiber/context.hpp>

#include <exception>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>

namespace creel::detail {

namespace {

// Made later than Boost's part of the thread, and so destroyed earlier.
constinit thread_local bool thread_has_ended = false;
struct exit_guard {
    ~exit_guard() {
        tell_pending_fibers("exit() was called inside io::run, where these fibers have not ended:");
        CREEL_ASSERT(this_scheduler == nullptr && !run_is_in_parent,
                     "exit() inside io::run: let its function return instead, or call _exit()");
        thread_has_ended = true;
    }
};
thread_local exit_guard no_exit;

// The local<T> bindings that the calling thread sees, for use on another thread.
class shared_locals {
public:
    shared_locals() noexcept : held_(share_locals(this_thread_parker().locals)) {}
    ~shared_locals() { drop_locals(held_); }
    shared_locals(const shared_locals&) = delete;
    shared_locals& operator=(const shared_locals&) = delete;

    // Call it twice on the other thread: before it uses them, and after.
    void swap_with_this_thread() noexcept { std::swap(this_thread_parker().locals, held_); }

private:
    local_binding* held_;
};

} // namespace

void watch_end_of_thread() noexcept {
    static_cast<void>(&no_exit); // makes it
}

bool thread_can_run() {
    return !thread_has_ended && boost::fibers::context::active() != nullptr;
}

// Rejected: a new Boost part for the thread. Boost 1.81 has no way to make one.
void on_living_thread(const std::function<void()>& f) {
    refuse_in_forked_run("io::run");
    if (thread_can_run()) {
        f();
        return;
    }
    shared_locals locals;
    std::exception_ptr error;
    const auto body = [&] {
        locals.swap_with_this_thread();
        try {
            f();
        } catch (...) {
            error = std::current_exception();
        }
        locals.swap_with_this_thread();
    };
    try {
        std::thread{body}.join();
    } catch (const std::system_error& e) {
        throw std::system_error(e.code(), "a run on a thread that is ending needs a thread made "
                                          "for it, and none can be started");
    }
    if (error)
        std::rethrow_exception(error);
}

} // namespace creel::detail
