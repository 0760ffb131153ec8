// A library calls back on a thread of its own, and the callback resumes the coroutine there. With
// the argument "right" the callback wakes the loop, through a descriptor on which the loop waits.

#include "coroutine/loop.hpp"
#include "coroutine/operation.hpp"
#include "coroutine/sleep.hpp"
#include "coroutine/task.hpp"

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <iostream>
#include <string_view>
#include <thread>

#include <sys/eventfd.h>
#include <unistd.h>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

template <typename F>
std::jthread query(F callback) {
    return std::jthread{[callback]() mutable { callback(42); }};
}

class wrong_answer {
public:
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) {
        library_ = query([this, waiting](int answer) {
            answer_ = answer;
            waiting.resume();
        });
    }
    [[nodiscard]] int await_resume() const noexcept { return answer_; }

private:
    int answer_ = 0;
    std::jthread library_{};
};

class right_answer : public operation {
public:
    right_answer() = default;
    ~right_answer() { close(fd_); }
    template <task_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> waiting) {
        io_uring_sqe& e = begin(waiting, *waiting.promise().scope);
        io_uring_prep_read(&e, fd_, &count_, sizeof count_, 0);
        library_ = query([this](int answer) {
            answer_ = answer;
            eventfd_write(fd_, 1);
        });
    }
    [[nodiscard]] int await_resume() const {
        static_cast<void>(result("eventfd"));
        return answer_;
    }

private:
    int fd_ = eventfd(0, EFD_CLOEXEC);
    std::uint64_t count_ = 0;
    int answer_ = 0;
    std::jthread library_{};
};

task<> wrong() {
    wrong_answer waiting;
    const int answer = co_await waiting;
    co_await sleep_for(1ms);
    std::cout << "the answer is " << answer << std::endl;
}

task<> right() {
    right_answer waiting;
    const int answer = co_await waiting;
    co_await sleep_for(1ms);
    std::cout << "the answer is " << answer << std::endl;
}

} // namespace

int main(int count, char** arguments) {
    run(count > 1 && arguments[1] == std::string_view{"right"} ? right() : wrong());
}
