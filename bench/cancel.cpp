// The cancel family: the cost of cancelling fibers that wait, until the last has unwound and its
// nursery has ended. All fibers are in one nursery; or each is in a nursery that the fiber before
// it opened, which shows the cost of a level of nesting at each depth. In the control an event
// wakes the same number of fibers from the same wait; each then throws the same exception from the
// same place on its own stack, and catches it. Each measurement has a process of its own, so that
// all throw on equally fresh stacks.

#include "alone.hpp"
#include "micro.hpp"
#include "report.hpp"

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/run.hpp>

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

family make() {
    family result;
    result.name = "cancel";
    result.figures = {{"", "ns"}};
    for (const group& g : groups)
        result.cases.emplace_back(g.shape);
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
             }});
    };
    add("creel", contender, creel_cancel, creel_cancel_nested);
    add("throw", control, throw_on_event, throw_on_event);
    return result;
}

const registration times{make};

} // namespace
} // namespace creel::bench
