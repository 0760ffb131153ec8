#include <creel/fibers/detail/together.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/waiter.hpp>

namespace creel::detail {

void throw_unfinished() {
    throw_if_cancelled();
    throw task_cancelled{"a child never started"};
}

} // namespace creel::detail
