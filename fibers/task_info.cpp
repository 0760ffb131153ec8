#include <creel/fibers/task_info.hpp>

namespace creel {

std::string to_string(const task_info& info) {
    std::string text = info.name.empty() ? std::string{"task"} : info.name;
    text += " (#" + std::to_string(info.id) + ", spawned at ";
    text += info.spawned_at.file_name();
    text += ':' + std::to_string(info.spawned_at.line()) + ')';
    return text;
}

} // namespace creel
