// The carriers of a scheduler: how many there are, and which of them lie idle.
//
// The states of a carrier, and the function that makes each transition:
//
//   (none)   -- 0 was_created() -----> running
//   running  -- 1 put() -------------> idle      it has no next task
//   idle     -- 2 take() ------------> running   it was given a task (scheduler::bind)
//   idle     -- 3 end_idle() --------> ending    it is ready, without a task
//   running  -- 4 will_end() --------> ending    there are enough idle ones, it makes room,
//                                                or its stack has a size of its own
//   ending   -- leaves() ------------> ending    off the list of all carriers
//   ending   -- 5 ended() -----------> (gone)    Boost has ended its context
//
// Idle carriers are used last in, first out. So the carriers that a period did not need are the
// last in line. trim() knows their number by a count: the least number that was idle since the
// period began.
#pragma once

#include <creel/fibers/detail/run/fiber_record.hpp>
#include <creel/fibers/detail/run/ready_queue.hpp>

#include <algorithm>
#include <cstddef>

namespace creel::detail {

// Threads: the scheduler's own.
class carrier_pool {
public:
    // Null when none is idle.
    [[nodiscard]] fiber_record* first_idle() const noexcept { return idle_; }
    // Takes the first idle carrier; there must be one.
    void take() noexcept {
        idle_ = idle_->next_idle;
        low_ = std::min(low_, --idle_count_);
    }
    void put(fiber_record& f) noexcept {
        f.next_idle = idle_;
        idle_ = &f;
        ++idle_count_;
    }
    // True if a carrier with nothing to do is not worth keeping.
    [[nodiscard]] bool has_no_use_for(const fiber_record& f) const noexcept {
        return idle_count_ >= most_idle || !f.has_default_stack;
    }

    void was_created(fiber_record& f) noexcept {
        ++alive_;
        f.next_made = newest_;
        if (newest_ != nullptr)
            newest_->previous_made = &f;
        newest_ = &f;
    }
    // As the last thing that it does.
    void leaves(fiber_record& f) noexcept {
        (f.previous_made != nullptr ? f.previous_made->next_made : newest_) = f.next_made;
        if (f.next_made != nullptr)
            f.next_made->previous_made = f.previous_made;
    }
    // The newest of all carriers that have not left; fiber_record::next_made goes on from there.
    [[nodiscard]] const fiber_record* newest() const noexcept { return newest_; }
    void will_end() noexcept { ++ending_; }
    // Makes up to `count` idle carriers ready, so that they end.
    void end_idle(std::size_t count, ready_queue& ready) noexcept;
    // Counts a carrier that has ended. True if its stack is not needed any more, because it ended
    // by a trim.
    [[nodiscard]] bool ended() noexcept;

    [[nodiscard]] std::size_t alive() const noexcept { return alive_; } // idle and ending included
    [[nodiscard]] std::size_t idle() const noexcept { return idle_count_; }
    [[nodiscard]] std::size_t ending() const noexcept { return ending_; }

    // For the trim: see trim.cpp. A run begins with all its carriers shallow, because there are
    // none.
    void begin_run() noexcept {
        shallow_ = 0;
        unneeded_ = 0;
    }
    void begin_period() noexcept { low_ = idle_count_; }
    // True while the last portion of unneeded carriers is still in the ready queue.
    [[nodiscard]] bool unneeded_are_ending() const noexcept { return unneeded_ != 0; }
    // Ends a portion of the carriers that this period did not need; returns their number.
    std::size_t end_unneeded(ready_queue& ready) noexcept;
    // Gives back the deep part of the stacks that stay and were not needed.
    void make_shallow() noexcept;
    // True if a trim has something to give back, now or at the end of the next period: a carrier
    // that was in use a moment ago counts.
    [[nodiscard]] bool has_surplus() const noexcept {
        return idle_count_ > kept || idle_count_ > std::min(shallow_, low_);
    }

private:
    // Kept warm during a run; a finishing carrier beyond these ends.
    static constexpr std::size_t most_idle = 4096;
    // These stay when nothing is going on, each with this much of its stack: far more than the
    // frames of an idle carrier.
    static constexpr std::size_t kept = 64;
    static constexpr std::size_t kept_depth_bytes = 16 * 1024;
    // One portion of a trim: well below a millisecond where stacks are a page or two deep.
    static constexpr std::size_t most_at_once = 256;

    fiber_record* newest_ = nullptr;
    fiber_record* idle_ = nullptr; // with the default stack
    std::size_t idle_count_ = 0;
    std::size_t low_ = 0;      // the least idle_count_ of this period
    std::size_t shallow_ = 0;  // the last in line of the idle ones: their stacks are shallow
    std::size_t alive_ = 0;    // without the reserve fiber
    std::size_t ending_ = 0;   // of these
    std::size_t unneeded_ = 0; // of the ending carriers, those that a trim has told to end
};

} // namespace creel::detail
