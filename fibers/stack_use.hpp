// How deep the stacks have been, for each line that spawns. The answer tells which stack_bytes to
// give to spawn(), and which tasks come close to the end of their stack. A run measures with
// measure_stacks or in debug mode:
//
//     io::run({.measure_stacks = true}, [] {
//         serve();
//         for (const creel::stack_use& use : creel::stack_uses())
//             std::puts(creel::to_string(use).c_str());
//     });
//
// A stack is measured in whole pages: mincore(2) says which of them hold memory. An ended task was
// measured at its end, a living task is measured at the call. So the result counts every page that
// the task has touched, also in libraries and in the unwinder, and not the depth at some wait.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

namespace creel {

// The stacks of all tasks of this run that one line spawned and that got a stack.
struct stack_use {
    std::source_location spawned_at{};
    std::string name{};          // of the task that went deepest
    std::size_t stack_bytes = 0; // of that task's stack
    std::size_t most_bytes = 0;  // of it that the task has used: the high-water mark
    std::uint64_t tasks = 0;     // the number of tasks measured
};

// The stack uses of this run; those closest to the end of their stack come first. The function
// given to io::run, which is on the thread's own stack, and Boost's own fibers are not measured.
// Threads: those with a scheduler whose run measures. Throws: std::bad_alloc. Cost: a system call
// for each living task. (To measure costs some 2 us for each task that ends.)
[[nodiscard]] std::vector<stack_use> stack_uses();

// "parser (spawned at server.cpp:42): 20480 of 262144 bytes, the most of 17 tasks"
// Threads: any. Throws: std::bad_alloc.
[[nodiscard]] std::string to_string(const stack_use& use);

} // namespace creel
