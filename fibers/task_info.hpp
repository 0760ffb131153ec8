// Identifies a task or fiber: its number, its name and the line that spawned it.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstdint>
#include <source_location>
#include <string>

namespace creel {

struct task_info {
    std::uint64_t id = 0; // unique in the process
    std::string name{};   // the name given to spawn; may be empty
    std::source_location spawned_at{};
};

// "worker (#17, spawned at server.cpp:42)"
// Threads: any. Throws: std::bad_alloc.
[[nodiscard]] std::string to_string(const task_info& info);

} // namespace creel
