#pragma once

// The loop of one thread: an io_uring with the settings of creel's, a queue of coroutines that are
// ready, and a heap of timers.
//
//     int main() { return same_job::coroutine::run(serve()); } // task<int> serve();

#include "buffer_pool.hpp"
#include "cancel.hpp"
#include "task.hpp"
#include "timers.hpp"

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <liburing.h>

namespace same_job::coroutine {

// What an entry of the ring names. complete() may resume coroutines.
struct completion {
    void (*complete)(completion&, int result, unsigned flags);
};

class loop {
public:
    loop(); // Throws: std::system_error.
    loop(const loop&) = delete;
    loop& operator=(const loop&) = delete;
    ~loop();

    [[nodiscard]] static loop& current() noexcept { return *current_; }

    // Resumes coroutines until done(), and until nothing is owed.
    template <class Done>
    void run_until(Done done) {
        for (;;) {
            resume_ready();
            if (done() && owed_ == 0)
                return;
            poll();
        }
    }

    // It is resumed in this turn or the next, in order.
    void ready(std::coroutine_handle<> coroutine) { ready_.push_back(coroutine); }

    // An empty entry of the ring, which will be submitted with the next turn.
    [[nodiscard]] io_uring_sqe& entry(completion& c);
    // Asks the kernel to cancel. complete() is called once more, with `cancel_flag` and the
    // outcome, before or after the operation's own completion.
    void cancel(completion& c);
    static constexpr unsigned cancel_flag = 1U << 31;

    // A completion for which no coroutine waits: the loop does not end before it has come.
    void owe() noexcept { ++owed_; }
    void paid() noexcept { --owed_; }

    [[nodiscard]] timer_heap& timers() noexcept { return timers_; }
    [[nodiscard]] buffer_pool& buffers() noexcept { return *buffers_; }
    // A slot of the ring's file table; -1: it is full. A system call each.
    [[nodiscard]] int enter_file(int fd);
    void leave_file(int slot) noexcept;

private:
    static constexpr std::uint64_t cancel_tag = 1;

    void resume_ready();
    void poll();
    void enter(bool wait);
    void reap();

    io_uring ring_{};
    std::optional<buffer_pool> buffers_{};
    timer_heap timers_{};
    std::vector<std::coroutine_handle<>> ready_{};
    std::vector<std::coroutine_handle<>> running_{}; // those of this turn
    std::vector<int> free_slots_{};
    std::size_t owed_ = 0;

    static inline constinit thread_local loop* current_ = nullptr;
};

// Runs the task, and all that it starts, on a loop of its own. Returns its result or throws its
// error.
template <class T>
T run(task<T> work) {
    loop here;
    cancel_scope root;
    const auto main = work.start(root);
    here.run_until([&] { return main.done(); });
    return main.promise().take();
}

} // namespace same_job::coroutine
