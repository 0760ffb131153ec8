#include "parking.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/run.hpp>

namespace creel::bench {
namespace {

// The least primitive on creel's park protocol: a list of waiters, which open() wakes.
class gate : public parking_counts {
public:
    void pass() {
        check_cancel();
        gate_waiter waiter;
        waiter.next = waiting_;
        waiting_ = &waiter;
        ++parked;
        static_cast<void>(park(waiter));
        ++woken;
    }
    void open() {
        while (gate_waiter* first = waiting_) {
            waiting_ = first->next;
            wake(*first);
        }
    }

private:
    struct gate_waiter : waiter {
        static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
        static void describe(const waiter&, std::string& text) { text += "a gate"; }
        static constexpr waiter_kind table{&withdraw, &describe, false};

        gate_waiter() : waiter(table) {}
        gate_waiter* next = nullptr;
    };

    gate_waiter* waiting_ = nullptr;
};

[[gnu::noinline]] void pass_inside(gate& g, unsigned calls) {
    const call_data data{calls};
    if (calls > 1)
        pass_inside(g, calls - 1);
    else
        g.pass();
    g.intact_calls += data.intact(calls);
}

// A fiber's function refers to the gate alone; Visit is the type of a lambda.
template <class Visit>
values measure(parking& run, unsigned calls, Visit) {
    gate g;
    io::run([&](nursery& root) {
        run.begin();
        for (auto left = run.fibers(); left > 0; --left)
            root.spawn([&g] { Visit{}(g); });
        while (g.parked < run.fibers())
            this_fiber::yield();
        run.end(g);
        g.open();
    });
    return run.result(g, calls);
}

} // namespace

values park_creel(parking& run) {
    return measure(run, 0, [](gate& g) { g.pass(); });
}

values park_creel_nested(parking& run) {
    return measure(run, nested_calls, [](gate& g) { pass_inside(g, nested_calls); });
}

} // namespace creel::bench
