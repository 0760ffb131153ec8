#include <creel/fibers/detail/together.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/waiter.hpp>

namespace creel::detail {

std::string numbered(std::string_view call, int number) {
    std::string name{call};
    name += " #";
    return name += std::to_string(number);
}

void throw_unfinished() {
    throw_if_cancelled();
    throw task_cancelled{"a child never started"};
}

} // namespace creel::detail
