// Names the fiber of a stack overflow before the process ends: a handler of SIGSEGV, on an
// alternate stack, because the fiber's own stack has no room left.
//
//     creel: stack overflow in fiber "parser" (#17, spawned at server.cpp:42): its stack has 262144
//     bytes and 262208 are in use; give it more, at least n.spawn({.stack_bytes = 524288}, f),
//     or make its frames smaller
//
// After that message, and at once for any other fault, the handler calls the handler that was
// installed before it, or takes the signal's default action: other faults behave as without creel.
// If the program later installs a handler that does not call creel's, there is no report. All this
// does nothing under ASan, which has a handler of its own.
//
// The states of creel's handler, for the whole process:
//
//     absent --1--> installed --3--> covered
//       ^               |  ^           |
//       +-------2-------+  +-----4-----+
//
//   1  install()     the first overflow_watch is made
//   2  uninstall()   the last overflow_watch is destroyed
//   3  the program   it installs its own handler, which may call creel's. If the last watch is
//                    destroyed then, creel's handler stays, because nothing tells when the last
//                    call of it ends. On a thread without a scheduler it only passes the signal on.
//   4  the program   it restores creel's handler
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string_view>

namespace creel::detail {

// Watches the thread that makes it, until it is destroyed. Without the memory for an alternate
// stack there is no report.
// Threads: the thread that made it. Cost: some 10 us.
class overflow_watch {
public:
    overflow_watch() noexcept;
    ~overflow_watch();
    overflow_watch(const overflow_watch&) = delete;
    overflow_watch& operator=(const overflow_watch&) = delete;

private:
    bool watching_ = false;
    void* alternate_stack_ = nullptr; // null: the thread had an alternate stack already
};

// Which fiber overflowed its stack, and by how much.
struct stack_overflow {
    std::string_view name{};
    std::size_t number_of_name = 0; // "race #2"; 0: the name has no number
    std::uint64_t id = 0;
    const char* spawned_in = nullptr; // a file; null: no task
    std::uint32_t spawned_on_line = 0;
    std::size_t stack_bytes = 0;
    std::size_t used_bytes = 0;
};

} // namespace creel::detail
