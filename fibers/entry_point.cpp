#include <creel/fibers/entry_point.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

namespace creel {

entry_point::entry_point(std::source_location where, terminate_hook hook) noexcept
    : where_(where), watch_(hook) {}

void entry_point::on_living_thread(const std::function<void()>& f) {
    detail::on_living_thread(f);
}

void entry_point::run(const std::function<void()>& main) {
    CREEL_ASSERT(on_scheduler(), "entry_point::run() is called inside run_scheduler");
    std::exception_ptr error;
    try {
        main();
    } catch (...) {
        error = std::current_exception();
    }
    drain(); // outside of the handler: it waits
    if (error) {
        watch_.passes(error, where_);
        std::rethrow_exception(error);
    }
}

void entry_point::drain() {
    cancel_scope left;
    left.run([&] {
        detail::core_of(left).request(root_cancel_);
        tell_listener(&left);
        detail::scheduler::current()->drain();
        tell_listener(nullptr);
    });
}

void entry_point::root_begins(nursery& root) noexcept {
    tell_listener(&root.scope());
}

void entry_point::root_ended(nursery& root) noexcept {
    tell_listener(nullptr);
    root_cancel_ = detail::core_of(root.scope()).request_in_sight();
}

void entry_point::tell_listener(cancel_scope* everything) noexcept {
    if (listener_)
        listener_(everything);
}

} // namespace creel
