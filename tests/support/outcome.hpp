// What a function ended with, in words: for tests that look at errors and cancels alike.
#pragma once

#include "support/test_body.hpp"

#include <string>

namespace creel::test {

// The what() of the exception that f throws; "task_cancelled: what" without the
// place, "cancelled: reason" for those;
// "nothing" if it returns.
[[nodiscard]] std::string outcome_of(test_body<> f);

} // namespace creel::test
