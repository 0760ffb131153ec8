#include <creel/fibers/nursery.hpp>

#include <creel/fibers/cancel_token.hpp>

namespace creel {

cancel_token nursery::token() {
    return core_.scope.token();
}

} // namespace creel
