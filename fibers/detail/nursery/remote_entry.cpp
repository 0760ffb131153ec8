#include <creel/fibers/detail/nursery/remote_entry.hpp>

#include <creel/fibers/detail/cancel/token.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <new>
#include <utility>

namespace creel::detail {

remote_entry::remote_entry(nursery_core& core, scheduler& home, std::shared_ptr<token_state> token,
                           bool refusing) noexcept
    : home_(&home), token_(std::move(token)), core_(&core), refusing_(refusing) {
    deliver = [](inbox_node& node) noexcept {
        auto& self = static_cast<remote_entry&>(node);
        {
            const std::lock_guard lock{self.mutex_};
            self.posted_ = false;
        }
        self.adopt();
        self.drop_reference(); // the inbox's
    };
}

// acq_rel: what other threads did to the entry happens before its end.
void remote_entry::drop_reference() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
        delete this;
}

// The nursery's thread may not know yet of a cancel that the caller has sent to its token.
bool remote_entry::accepts() noexcept {
    if (token_->was_cancelled())
        return false;
    const std::lock_guard lock{mutex_};
    return core_ != nullptr && !refusing_;
}

// The memory comes from malloc, because the nodes of a scheduler belong to its thread.
task_record* remote_entry::make_task(const spawn_options& options, std::size_t closure_bytes,
                                     std::size_t closure_align, std::source_location where) {
    if (!accepts())
        return nullptr;
    check_stack_bytes(options.stack_bytes, "a spawn");
    void* memory = ::operator new(task_record::node_size(closure_bytes, closure_align));
    task_record* t = task_record::place(memory, 0, closure_align, where);
    t->stack_bytes = options.stack_bytes;
    t->is_background = options.is_background;
    try {
        t->given_name = options.name;
    } catch (...) {
        discard_task(*t);
        throw;
    }
    return t;
}

void remote_entry::discard_task(task_record& t) noexcept {
    t.~task_record();
    ::operator delete(&t);
}

bool remote_entry::submit(task_record& t) noexcept {
    const bool own_thread = scheduler::current() == home_;
    bool taken = false;
    {
        const std::lock_guard lock{mutex_};
        taken = core_ != nullptr && !refusing_ && core_->take_slot();
        if (taken) {
            handed_in_.push(t);
            // With the lock held: without it the nursery might close and its run end, and the entry
            // would be in the inbox of a later run. The nursery's own thread adopts the task below.
            if (!posted_ && !own_thread) {
                posted_ = true;
                add_reference();
                home_->incoming().post(*this);
            }
        }
    }
    if (!taken) {
        t.destroy_closure();
        discard_task(t);
    } else if (own_thread) {
        adopt();
    }
    return taken;
}

void remote_entry::refuse(bool refusing) noexcept {
    const std::lock_guard lock{mutex_};
    refusing_ = refusing;
}

// Only this thread clears core_, so it stays the same after the unlock.
void remote_entry::adopt() noexcept {
    nursery_core* core = nullptr;
    ready_queue taken;
    {
        const std::lock_guard lock{mutex_};
        core = core_;
        if (!handed_in_.empty())
            taken.prepend(handed_in_);
    }
    while (runnable* r = taken.pop())
        core->adopt(static_cast<task_record&>(*r));
}

bool remote_entry::close() noexcept {
    {
        const std::lock_guard lock{mutex_};
        if (handed_in_.empty()) {
            core_ = nullptr;
            return true;
        }
    }
    adopt();
    return false;
}

} // namespace creel::detail
