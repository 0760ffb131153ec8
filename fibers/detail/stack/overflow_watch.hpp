// Names the fiber whose stack overflows, before the process dies of it: a handler of SIGSEGV on an
// alternate stack, for the fiber's own has no room left.
//
//     creel: stack overflow in fiber "parser" (#17, spawned at server.cpp:42): its stack has 262144
//     bytes and 262208 are in use; give it more, at least n.spawn({.stack_bytes = 524288}, f),
//     or make its frames smaller
//
// Then comes the handler that was installed before, or the signal's default action, and so it does
// at once for any other fault: that behaves as without creel. A handler that the program installs
// later, and that does not call ours, wins. Does nothing under ASan, which has one of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string_view>

namespace creel::detail {

// One thread's part, as long as it lives; the first installs the handler and the last one takes it
// away, unless another has been put above it. Without the memory for an alternate stack there is no
// report. Threads: the one that made it. Cost: some 10 us.
class overflow_watch {
public:
    overflow_watch() noexcept;
    ~overflow_watch();
    overflow_watch(const overflow_watch&) = delete;
    overflow_watch& operator=(const overflow_watch&) = delete;

private:
    bool watching_ = false;
    void* alternate_stack_ = nullptr; // null: the thread had one already
};

// Who overflowed, and by how much.
struct stack_overflow {
    std::string_view name{};
    std::uint64_t id = 0;
    const char* spawned_in = nullptr; // a file; null: no task
    std::uint32_t spawned_on_line = 0;
    std::size_t stack_bytes = 0;
    std::size_t used_bytes = 0;
};

} // namespace creel::detail
