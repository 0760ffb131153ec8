#include <creel/fibers/detail/nursery/together.hpp>

#include <creel/fibers/nursery.hpp>

namespace creel::detail {

void throw_unfinished(nursery& n) {
    nursery_access::core(n).throw_absorbed();
}

} // namespace creel::detail
