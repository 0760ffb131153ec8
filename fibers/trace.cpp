#include <creel/fibers/trace.hpp>

#include <creel/fibers/detail/run/scheduler.hpp>

namespace creel {

bool write_trace() noexcept {
    const detail::scheduler* const s = detail::scheduler::current();
    if (s == nullptr || s->recorder() == nullptr)
        return false;
    s->recorder()->write();
    return true;
}

} // namespace creel
