#include "support/outcome.hpp"

#include <creel/fibers/cancelled.hpp>

#include <exception>

namespace creel::test {

std::string outcome_of(test_body<> f) {
    try {
        f();
    } catch (const creel::task_cancelled& e) {
        const std::string text = e.what();
        return "task_cancelled: " + text.substr(0, text.rfind(" ("));
    } catch (const std::exception& e) {
        return e.what();
    } catch (const creel::cancelled& c) {
        return "cancelled: " + c.reason().text;
    }
    return "nothing";
}

} // namespace creel::test
