#include "support/outcome.hpp"

#include <creel/fibers/cancelled.hpp>

#include <exception>

namespace creel::test {

std::string outcome_of(test_body<> f) {
    try {
        f();
    } catch (const creel::task_cancelled& e) {
        return std::string{"task_cancelled: "} + e.what();
    } catch (const std::exception& e) {
        return e.what();
    } catch (const creel::cancelled& c) {
        return "cancelled: " + c.reason().text;
    }
    return "nothing";
}

} // namespace creel::test
