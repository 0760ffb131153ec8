#include <creel/fibers/fork_guard.hpp>

#include <pthread.h>

namespace creel {

namespace {

// Also guards the links of the guards: one may be made while another thread forks.
constinit std::mutex guards_mutex;
constinit const fork_guard* oldest = nullptr;
constinit const fork_guard* newest = nullptr;

} // namespace

struct fork_guard::handlers {
    static void before() noexcept {
        guards_mutex.lock();
        for (const fork_guard* g = newest; g != nullptr; g = g->older_)
            g->mutex_->lock();
    }
    static void in_parent() noexcept {
        for (const fork_guard* g = oldest; g != nullptr; g = g->newer_)
            g->mutex_->unlock();
        guards_mutex.unlock();
    }
    static void in_child() noexcept {
        in_parent();
        for (const fork_guard* g = oldest; g != nullptr; g = g->newer_)
            if (g->in_child_ != nullptr)
                g->in_child_();
    }
};

fork_guard::fork_guard(std::mutex& guarded, void (*in_child)() noexcept) noexcept
    : mutex_(&guarded), in_child_(in_child) {
    const std::lock_guard lock{guards_mutex};
    // Registration fails only without memory, at the start of the program.
    if (newest == nullptr)
        static_cast<void>(
            ::pthread_atfork(&handlers::before, &handlers::in_parent, &handlers::in_child));
    older_ = newest;
    if (older_ != nullptr)
        older_->newer_ = this;
    else
        oldest = this;
    newest = this;
}

} // namespace creel
