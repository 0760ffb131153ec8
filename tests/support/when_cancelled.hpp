// A fiber that waits until it is cancelled, and has something to do then.
#pragma once

#include "support/test_body.hpp"

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>

namespace creel::test {

// Sleeps for an hour. If that is cancelled it calls f, which may take the `cancelled`, inside the
// handler, and lets `cancelled` pass, or what f throws.
inline void when_cancelled(test_body<const creel::cancelled> f) {
    try {
        creel::this_fiber::sleep_for(std::chrono::hours{1});
    } catch (const creel::cancelled& c) {
        f(c);
        throw;
    }
}

} // namespace creel::test
