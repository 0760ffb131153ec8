// A walk over the carriers of a run, for work that is done in slices. The list of carriers can be
// left and entered again at the same place, because leaves() moves the place on if that carrier
// ends. A tree could not be entered again so cheaply. A carrier that is made meanwhile is in front
// of the place, and is not visited.
#pragma once

#include <creel/fibers/detail/run/fiber_record.hpp>
#include <creel/fibers/time.hpp>

#include <cstdint>

namespace creel::detail {

// Threads: the run's.
class carrier_walk {
public:
    enum class step : std::uint8_t {
        next,
        look, // the same after long work: the clock is looked at
        stop  // the walk is over
    };

    void begin_at(const fiber_record* first) noexcept { next_ = first; }
    void stop() noexcept { next_ = nullptr; }
    [[nodiscard]] bool is_over() const noexcept { return next_ == nullptr; }

    // Calls visit(const fiber_record&) for each carrier that has a task, until the walk is over or
    // the slice is. Throws: what visit throws.
    template <typename Visit>
    void go_on(time_point slice_ends, Visit visit) {
        while (next_ != nullptr) {
            const fiber_record& f = *next_;
            next_ = f.next_made;
            const step then = f.current != nullptr ? visit(f) : step::next;
            if (then == step::stop)
                next_ = nullptr;
            const bool looks = ++seen_ % carriers_per_look == 0 || then == step::look;
            if (looks && next_ != nullptr && clock::now() >= slice_ends)
                return;
        }
    }

    // A carrier ends.
    void leaves(const fiber_record& f) noexcept {
        if (next_ == &f)
            next_ = f.next_made;
    }

private:
    static constexpr unsigned carriers_per_look = 64;

    const fiber_record* next_ = nullptr;
    unsigned seen_ = 0;
};

} // namespace creel::detail
