#include <creel/fibers/nursery.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <utility>

namespace creel {

cancel_token nursery::token() {
    return core_.scope.token();
}

void nursery::fail(std::exception_ptr error) noexcept {
    CREEL_ASSERT(error != nullptr, "fail() of a nursery needs an error: to end it without one, "
                                   "cancel() it");
    CREEL_ASSERT(core_.open && detail::scheduler::current() == core_.opener->home,
                 "fail() of a nursery is called on its thread, before it has ended");
    core_.fail(std::move(error));
}

} // namespace creel
