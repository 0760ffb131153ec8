#include <creel/fibers/detail/inspect/run_request.hpp>

#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/system/futex.hpp>

#include <utility>

namespace creel::detail {

run_request::run_request(scheduler& home, const kind& what) noexcept : home_(home), kind_(what) {
    deliver = [](inbox_node& node) noexcept {
        auto& self = static_cast<run_request&>(node);
        self.home_.add_request(self);
    };
}

void run_request::post() noexcept {
    home_.incoming().post(*this);
}

run_request::outcome run_request::await(duration patience, time_point from) noexcept {
    // No wake is lost: the run writes the state before it counts, and the sleep ends at once if the
    // count is not the one that was seen before the look at the state.
    std::uint32_t seen = 0;
    time_point last_progress = from;
    while (state_.load(std::memory_order_acquire) == pending) { // pairs with finish()
        futex_wait(progress_, seen, deadline_after(last_progress, patience));
        const std::uint32_t now = progress_.load(std::memory_order_acquire);
        if (std::exchange(seen, now) != now)
            last_progress = clock::now();
        else if (deadline_after(last_progress, patience) <= clock::now())
            return outcome::late;
    }
    return state_.load(std::memory_order_relaxed) == done ? outcome::done : outcome::ended;
}

void run_request::letting_go::operator()(run_request* r) const noexcept {
    r->given_up_.store(true, std::memory_order_relaxed); // the run need not see it soon
    r->release();
}

void run_request::release() noexcept {
    if (holders_.fetch_sub(1) == 1)
        kind_.destroy(this);
}

// ---- the run ------------------------------------------------------------------------------------

bool run_request::go_on() noexcept {
    if (given_up_.load(std::memory_order_relaxed) && !kind_.is_owed) {
        finish(ended);
        return true;
    }
    if (kind_.work(*this)) {
        finish(done);
        return true;
    }
    tell_progress();
    return false;
}

void run_request::tell_progress() noexcept {
    progress_.fetch_add(1, std::memory_order_release);
    futex_wake_all(progress_);
}

// After the last store the requester may delete its half, so `this` is let go of last.
void run_request::finish(state how) noexcept {
    state_.store(how, std::memory_order_release);
    tell_progress();
    release();
}

} // namespace creel::detail
