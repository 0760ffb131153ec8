// Waits, as a fiber or as a thread, until other fibers or threads have made a condition true.
#pragma once

#include "support/crowd.hpp"
#include "support/time_limit.hpp"

#include <chrono>

namespace creel::test {

// Returns false if the condition is not true within 20 s: with a lost wake a test fails and does
// not hang.
template <typename Condition>
[[nodiscard]] bool becomes_true(Condition holds) {
    const time_limit patience{std::chrono::seconds{20}};
    while (!holds()) {
        if (patience.passed())
            return false;
        let_others_run();
    }
    return true;
}

} // namespace creel::test
