#include <creel/fibers/detail/run/polling_pace.hpp>

#include <algorithm>

namespace creel::detail {

void polling_pace::begin_run(time_point now) noexcept {
    switches_per_look_ = most_switches_per_look;
    full_budget_ = budget_per_switch * most_switches_per_look;
    switches_left_ = most_switches_per_look;
    held_back_ = 0;
    looks_ = 0;
    last_look_ = now;
}

// The slices that end now began at last_look_, with nothing but switches in between.
void polling_pace::look(time_point now) noexcept {
    const duration took = last_look_ == time_point::max() ? duration{} : now - last_look_;
    last_look_ = now;
    if (took > longest_between_looks)
        switches_per_look_ = static_cast<int>(
            std::max<duration::rep>(1, switches_per_look_ * longest_between_looks / took));
    else
        switches_per_look_ = std::min(2 * switches_per_look_, most_switches_per_look);
    full_budget_ = budget_per_switch * switches_per_look_;
}

void polling_pace::begin_round(time_point now, ready_queue& ready) noexcept {
    look(now);
    switches_left_ = switches_per_look_;
    looks_ = 0;
    marker_passed_ = false;
    if (!marker_queued_ && !ready.empty()) {
        marker_queued_ = true;
        ready.push(marker_);
    }
}

void polling_pace::pass_marker(ready_queue& ready) noexcept {
    if (!marker_passed_ && !ready.empty()) {
        marker_passed_ = true;
        ready.push(marker_);
        return;
    }
    marker_queued_ = false;
    if (looks_ > 0)
        look_at_next_switch(); // the round was a long one: poll at the next switch
}

void polling_pace::remove_marker(ready_queue& ready) noexcept {
    if (!marker_queued_)
        return;
    ready_queue others;
    while (runnable* r = ready.pop())
        if (r != &marker_)
            others.push(*r);
    while (runnable* r = others.pop())
        ready.push(*r);
    marker_queued_ = false;
}

} // namespace creel::detail
