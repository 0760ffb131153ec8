#include <creel/fibers/detail/task/carrier_pool.hpp>

namespace creel::detail {

void carrier_pool::end_idle(std::size_t count, ready_queue& ready) noexcept {
    for (; count != 0 && idle_ != nullptr; --count) {
        fiber_record& f = *idle_;
        idle_ = f.next_idle;
        --idle_count_;
        f.current = nullptr;
        ++ending_;
        ready.push(f);
    }
    low_ = std::min(low_, idle_count_);
}

bool carrier_pool::ended() noexcept {
    --alive_;
    --ending_;
    if (unneeded_ == 0)
        return false;
    --unneeded_;
    return true;
}

std::size_t carrier_pool::end_unneeded(ready_queue& ready) noexcept {
    const std::size_t count =
        std::min({low_, idle_count_ - std::min(idle_count_, kept), most_at_once});
    end_idle(count, ready);
    low_ -= count;
    unneeded_ += count;
    return count;
}

// The last in line were not needed: the first is always the next to be used. Those that were made
// shallow before, and were idle since, are the last of these.
void carrier_pool::make_shallow() noexcept {
    const std::size_t shallow = std::min(shallow_, low_);
    shallow_ = low_;
    if (shallow == low_)
        return;
    const fiber_record* f = idle_;
    for (std::size_t left = idle_count_; left != shallow; --left, f = f->next_idle)
        if (left <= low_)
            stack_pool::discard_below(f->stack, kept_depth_bytes);
}

} // namespace creel::detail
