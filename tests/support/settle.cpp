#include "support/settle.hpp"

#include <creel/fibers/this_fiber.hpp>

namespace creel::test {

namespace {
void yield_times(int times) {
    for (int i = 0; i < times; ++i)
        creel::this_fiber::yield();
}
} // namespace

void settle() {
    yield_times(5);
}

void settle_and_poll() {
    yield_times(200); // the scheduler polls every 64 switches
}

} // namespace creel::test
