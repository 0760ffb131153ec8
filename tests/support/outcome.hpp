// How a function ended, as text: for tests of errors and cancels.
#pragma once

#include "support/test_body.hpp"

#include <string>

namespace creel::test {

// Returns the what() of the exception that f throws; for task_cancelled "task_cancelled: what"
// without the place; for cancelled "cancelled: reason"; "nothing" if f returns.
[[nodiscard]] std::string outcome_of(test_body<> f);

} // namespace creel::test
