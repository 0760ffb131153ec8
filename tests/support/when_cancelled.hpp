// A function for a fiber that waits until it is cancelled and then does something.
#pragma once

#include "support/test_body.hpp"

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>

namespace creel::test {

// Sleeps for an hour. If the sleep is cancelled, calls f inside the handler, and then lets
// `cancelled` or the exception of f pass. f may take the `cancelled`.
inline void when_cancelled(test_body<const creel::cancelled> f) {
    try {
        creel::this_fiber::sleep_for(std::chrono::hours{1});
    } catch (const creel::cancelled& c) {
        f(c);
        throw;
    }
}

} // namespace creel::test
