#include "../coroutine.hpp"

#include "parking.hpp"

#include "same_job/coroutine/group.hpp"
#include "same_job/coroutine/task.hpp"

#include <coroutine>
#include <utility>
#include <vector>

namespace creel::bench {
namespace {

namespace coroutines = ::same_job::coroutine;

// A list of waiters, as creel's gate has it. Each waiter is in the frame of its coroutine.
class gate : public parking_counts {
public:
    class awaiter {
    public:
        explicit awaiter(gate& of) : gate_(of) {}
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            coroutine_ = waiting;
            next_ = std::exchange(gate_.waiting_, this);
            ++gate_.parked;
        }
        void await_resume() const noexcept { ++gate_.woken; }

    private:
        friend class gate;
        gate& gate_;
        std::coroutine_handle<> coroutine_;
        awaiter* next_ = nullptr;
    };

    awaiter pass() { return awaiter{*this}; }
    void open() {
        while (awaiter* first = waiting_) {
            waiting_ = first->next_;
            first->coroutine_.resume();
        }
    }

private:
    awaiter* waiting_ = nullptr;
};

[[gnu::noinline]] coroutine pass(gate& g) {
    co_await g.pass();
}

[[gnu::noinline]] coroutines::task<> pass_inside(gate& g, unsigned calls) {
    const call_data data{calls};
    if (calls > 1)
        co_await pass_inside(g, calls - 1);
    else
        co_await g.pass();
    g.intact_calls += data.intact(calls);
}

} // namespace

values park_coroutine(parking& run) {
    std::vector<coroutine> coroutines(run.fibers());
    gate g;
    run.begin();
    for (auto& one : coroutines) {
        one = pass(g);
        one.resume();
    }
    run.end(g);
    g.open();
    return run.result(g, 0);
}

// A frame for each call, and none more: a group begins the outermost.
values park_coroutine_nested(parking& run) {
    gate g;
    coroutines::cancel_scope root;
    coroutines::group children{root, coroutines::errors::cancel_all};
    run.begin();
    for (auto left = run.fibers(); left > 0; --left)
        children.spawn(pass_inside(g, nested_calls));
    run.end(g);
    g.open();
    return run.result(g, nested_calls);
}

} // namespace creel::bench
