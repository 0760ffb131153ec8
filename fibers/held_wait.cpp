#include <creel/fibers/held_wait.hpp>

namespace creel::detail {

constinit thread_local held_waits this_held_waits;

} // namespace creel::detail
