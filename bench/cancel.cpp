// The cancel family: the cost of cancelling fibers that wait, until the last has unwound and its
// nursery has ended. All fibers are in one nursery; or each is in a nursery that the fiber before
// it opened, which shows the cost of a level of nesting at each depth. In the control an event
// wakes the same number of fibers from the same wait; each then throws the same exception from the
// same place on its own stack, and catches it. In the control `coroutine` as many coroutines of
// same_job are in one group, which is cancelled. Each measurement has a process of its own, so that
// all throw on equally fresh stacks.

#include "alone.hpp"
#include "micro.hpp"
#include "report.hpp"

#include "same_job/coroutine/cancel.hpp"
#include "same_job/coroutine/group.hpp"
#include "same_job/coroutine/list.hpp"
#include "same_job/coroutine/loop.hpp"

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/run.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace creel::bench {
namespace {

struct group {
    const char* shape;
    std::uint64_t fibers;
    bool nested;
};
constexpr group groups[]{{"fibers:100000", 100'000, false},
                         {"depth:1000", 1'000, true},
                         {"depth:4000", 4'000, true},
                         {"depth:16000", 16'000, true}};

// A doubly linked list of waiters: a primitive of sync/ without its lock.
class gate {
public:
    void pass() {
        check_cancel();
        gate_waiter w{*this};
        w.previous = last_;
        (last_ != nullptr ? last_->next : first_) = &w;
        last_ = &w;
        ++parked;
        if (park(w) == wake_reason::cancelled)
            throw_cancelled();
        if (reason != nullptr) // the control does the same as throw_cancelled
            throw cancelled{reason};
    }
    void open() {
        while (gate_waiter* w = first_) {
            unlink(*w);
            wake(*w);
        }
    }

    std::uint64_t parked = 0;
    std::shared_ptr<const cancel_reason> reason{};

private:
    struct gate_waiter : waiter {
        static withdrawal withdraw(waiter& w, wake_reason) noexcept {
            auto& self = static_cast<gate_waiter&>(w);
            self.owner->unlink(self);
            return withdrawal::withdrawn;
        }
        static void describe(const waiter&, std::string& text) { text += "a gate"; }
        static constexpr waiter_kind table{&withdraw, &describe};

        explicit gate_waiter(gate& g) noexcept : waiter(table), owner(&g) {}
        gate* owner;
        gate_waiter* previous = nullptr;
        gate_waiter* next = nullptr;
    };

    void unlink(gate_waiter& w) noexcept {
        (w.previous != nullptr ? w.previous->next : first_) = w.next;
        (w.next != nullptr ? w.next->previous : last_) = w.previous;
    }

    gate_waiter* first_ = nullptr;
    gate_waiter* last_ = nullptr;
};

void await_all(const gate& g, std::uint64_t count) {
    while (g.parked < count)
        this_fiber::yield();
}

void creel_cancel(meter& meter) {
    gate g;
    std::uint64_t passed = 0;
    io::run([&] {
        with_nursery([&](nursery& n) {
            for (auto left = meter.rounds(); left > 0; --left)
                n.spawn([&] {
                    g.pass();
                    ++passed;
                });
            await_all(g, meter.rounds());
            meter.start();
            n.cancel();
        });
        meter.stop();
    });
    if (passed != 0)
        throw std::runtime_error("not every fiber was cancelled");
}

// Each level is a fiber that waits for the next level. The last level waits at the gate.
void level(gate& g, std::uint64_t below) {
    with_nursery([&](nursery& n) {
        if (below == 0)
            g.pass();
        n.spawn([&g, below] { level(g, below - 1); });
    });
}

void creel_cancel_nested(meter& meter) {
    gate g;
    io::run([&] {
        with_nursery([&](nursery& n) {
            n.spawn([&] { level(g, meter.rounds() - 1); });
            await_all(g, 1);
            meter.start();
            n.cancel();
        });
        meter.stop();
    });
}

void throw_on_event(meter& meter) {
    gate g;
    std::uint64_t caught = 0;
    io::run([&] {
        with_nursery([&](nursery& n) {
            for (auto left = meter.rounds(); left > 0; --left)
                n.spawn([&] {
                    try {
                        g.pass();
                    } catch (const cancelled&) {
                        ++caught;
                    }
                });
            await_all(g, meter.rounds());
            g.reason = std::make_shared<const cancel_reason>();
            meter.start();
            g.open();
        });
        meter.stop();
    });
    if (caught != meter.rounds())
        throw std::runtime_error("not every fiber has caught its exception");
}

namespace coroutines = ::same_job::coroutine;

// The same list for coroutines. Its waiter is in the frame, and in the list of its scope.
class coroutine_gate {
public:
    class awaiter : coroutines::list_node<awaiter>, coroutines::cancel_entry {
    public:
        explicit awaiter(coroutine_gate& of) noexcept : cancel_entry(&cancel_this), gate_(of) {}
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <coroutines::task_promise Promise>
        void await_suspend(std::coroutine_handle<Promise> waiting) {
            waiting.promise().scope->add(*this);
            coroutine_ = waiting;
            gate_.waiting_.push_back(*this);
            ++gate_.parked;
        }
        void await_resume() const {
            if (cancelled_)
                throw coroutines::operation_cancelled{};
        }

    private:
        friend class coroutines::list<awaiter>;
        static void cancel_this(coroutines::cancel_entry& e) noexcept {
            auto& self = static_cast<awaiter&>(e);
            self.list_node<awaiter>::unlink();
            self.cancelled_ = true;
            coroutines::loop::current().ready(self.coroutine_);
        }

        coroutine_gate& gate_;
        std::coroutine_handle<> coroutine_ = nullptr;
        bool cancelled_ = false;
    };

    awaiter pass() noexcept { return awaiter{*this}; }

    std::uint64_t parked = 0;

private:
    coroutines::list<awaiter> waiting_{};
};

coroutines::task<> pass(coroutine_gate& g, std::uint64_t& passed) {
    co_await g.pass();
    ++passed;
}

coroutines::task<> cancel_coroutines(meter& meter) {
    coroutine_gate g;
    std::uint64_t passed = 0;
    co_await coroutines::with_group([&](coroutines::group& all) -> coroutines::task<> {
        for (auto left = meter.rounds(); left > 0; --left)
            all.spawn(pass(g, passed));
        meter.start();
        all.cancel();
        co_return;
    });
    meter.stop();
    if (g.parked != meter.rounds() || passed != 0)
        throw std::runtime_error("not every coroutine was cancelled");
}

void coroutine_cancel(meter& meter) {
    coroutines::run(cancel_coroutines(meter));
}

family make() {
    family result;
    result.name = "cancel";
    result.figures = {{"", "ns"}};
    for (const group& g : groups)
        result.cases.emplace_back(g.shape);
    // Without `nested` it has only the flat case.
    const auto add = [&](const char* name, bool is_control, void (*flat)(meter&),
                         void (*nested)(meter&)) {
        result.candidates.push_back(
            {name, is_control,
             [name](std::size_t which, const effort&) -> values {
                 return measure_alone(id_of("cancel", name, "", groups[which].shape),
                                      groups[which].fibers);
             },
             [flat, nested](std::size_t which, std::uint64_t rounds) -> values {
                 meter meter{rounds, meter::purpose::timing};
                 (groups[which].nested ? nested : flat)(meter);
                 return {static_cast<double>(meter.elapsed().count()) /
                         static_cast<double>(rounds)};
             },
             [nested](std::size_t which) { return nested != nullptr || !groups[which].nested; }});
    };
    add("creel", contender, creel_cancel, creel_cancel_nested);
    add("throw", control, throw_on_event, throw_on_event);
    add("coroutine", control, coroutine_cancel, nullptr);
    return result;
}

const registration times{make};

} // namespace
} // namespace creel::bench
