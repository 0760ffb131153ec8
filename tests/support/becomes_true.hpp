// Waits, as a fiber or as a thread, until something holds that others bring about.
#pragma once

#include "support/crowd.hpp"
#include "support/time_limit.hpp"

#include <chrono>

namespace creel::test {

// False if it does not hold within 20 s: a lost wake fails, it does not hang.
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
