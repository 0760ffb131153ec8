#include <creel/fibers/time.hpp>

#include <creel/fibers/this_fiber.hpp>

namespace creel {

time_point deadline_after(time_point t, duration d) noexcept {
    duration::rep sum{};
    if (__builtin_add_overflow(t.time_since_epoch().count(), d.count(), &sum))
        return d > duration{} ? time_point::max() : time_point::min();
    return time_point{duration{sum}};
}

saturating_time_point deadline_after(duration d) noexcept {
    return deadline_after(now(), d);
}

} // namespace creel
