// How deep the stacks have been, for each line that spawns: what to give as
// spawn_options.stack_bytes, and what comes close to the end of its stack. Off unless asked for:
//
//     io::run({.measure_stacks = true}, [] {
//         serve();
//         for (const creel::stack_use& use : creel::stack_uses())
//             std::puts(creel::to_string(use).c_str());
//     });
//
// A stack is measured in whole pages, by asking the kernel which of them hold memory (mincore(2)),
// when a task ends and for those that live when you ask. So it is what was touched, by libraries
// and the unwinder too, and not what happened to be in use at some wait.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

namespace creel {

// Of all tasks of this run that one line spawned and that got a stack.
struct stack_use {
    std::source_location spawned_at{};
    std::string name{};          // of the task that went deepest
    std::size_t stack_bytes = 0; // of that task's stack
    std::size_t most_bytes = 0;  // that it has used of it: the high-water mark
    std::uint64_t tasks = 0;     // measured
};

// Those closest to the end of their stack first. The function given to run, which is on the
// thread's own stack, and Boost's own fibers are not among them. Threads: those with a scheduler
// whose run has measure_stacks. Throws: std::bad_alloc. Cost: a system call for each task that
// lives. (And the option: some 2 us for each that ends.)
[[nodiscard]] std::vector<stack_use> stack_uses();

// "parser (spawned at server.cpp:42): 20480 of 262144 bytes, the most of 17 tasks"
[[nodiscard]] std::string to_string(const stack_use& use);

} // namespace creel
