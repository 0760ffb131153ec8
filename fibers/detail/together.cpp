#include <creel/fibers/detail/together.hpp>

#include <creel/fibers/cancelled.hpp>

namespace creel::detail {

void throw_unfinished() {
    throw task_cancelled{"a child has no result"};
}

} // namespace creel::detail
