// The program has done its work, and a task still waits for something that never comes. The task is
// detached, by a promise written by hand: the library detaches nothing. In a group it would hold up
// the end as a fiber does.

#include "coroutine/loop.hpp"
#include "coroutine/task.hpp"

#include <coroutine>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

using namespace same_job::coroutine;

namespace {

struct detached {
    struct promise_type {
        detached get_return_object() const noexcept { return {}; }
        [[nodiscard]] std::suspend_never initial_suspend() const noexcept { return {}; }
        [[nodiscard]] std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
    };
};

class event {
public:
    auto wait() {
        struct awaiter {
            event& of;
            [[nodiscard]] bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> h) const { of.waiting_.push_back(h); }
            void await_resume() const noexcept {}
        };
        return awaiter{*this};
    }

private:
    std::vector<std::coroutine_handle<>> waiting_{};
};

struct connection {
    ~connection() { std::cout << "closed" << std::endl; }
    std::string text = "what the connection holds, on the heap";
};

detached serve_one(event& never) {
    const connection mine;
    co_await never.wait();
}

task<> serve(event& never) {
    serve_one(never);
    std::cout << "work done" << std::endl;
    co_return;
}

} // namespace

int main() {
    event never;
    run(serve(never));
    std::cout << "end of main" << std::endl;
}
