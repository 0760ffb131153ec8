// What an entry point needs so that a signal can ask for dumps. The handler of a signal may write
// to a descriptor, and may do little else. So a thread waits for such writes and makes the dumps.
// It has to be there before the signal comes, because every other thread of a program that hangs
// may be stuck. For the same reason it looks for stalls: see stall_watch.hpp.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/detail/inspect/thread_backtrace.hpp>

#include <optional>

namespace creel {

namespace detail {
struct dumping;
}

// While at least one of these exists, the process has that one thread. It is named "creel-dump",
// sleeps until it is woken or has to look for stalls, and takes no signal. While one of them
// `interrupts`, creel has the highest real-time signal that had its default action: the dumps then
// have the backtrace of a thread that computes. A forked child has neither; what the parent had
// made does nothing there.
class dump_thread {
public:
    // Threads: any. Throws: std::system_error if there is no descriptor or thread left;
    // std::bad_alloc. Cost: the first one starts the thread, some 20 us.
    explicit dump_thread(bool interrupts = true);
    // Parks: the last one blocks the thread until the other has ended, and with it a dump that has
    // begun; what stderr does not take is dropped then. Cancel: no. Threads: any. Cost: some 20 us.
    ~dump_thread();
    dump_thread(const dump_thread&) = delete;
    dump_thread& operator=(const dump_thread&) = delete;

    // An eventfd(2). A write to it makes a dump, as dump_fibers() does, and writes it to stderr.
    // Threads: any.
    [[nodiscard]] int wake_descriptor() const noexcept;

    // A watched run has begun. Threads: any.
    void look_for_stalls() noexcept;

private:
    std::optional<detail::backtrace_signal> signal_{};
    detail::dumping* const thread_;
};

} // namespace creel
