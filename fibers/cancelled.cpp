#include <creel/fibers/cancelled.hpp>

namespace creel {

cancelled::~cancelled() = default;

timed_out::timed_out(const std::string& what) : std::runtime_error(what) {}

task_cancelled::task_cancelled(const std::string& what)
    : std::runtime_error(what.empty() ? "cancelled" : "cancelled: " + what) {}

} // namespace creel
