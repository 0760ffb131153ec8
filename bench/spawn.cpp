// The spawn family: the cost of a fiber from spawn to join. An operation is one child, which counts
// itself. `join` spawns and joins one at a time, `batch:100` spawns a hundred and joins them all.
// In `join_wait` and `batch_wait` the child yields once, so that it needs a stack of its own.

#include "coroutine.hpp"
#include "micro.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/operations.hpp>
#include <boost/fiber/pooled_fixedsize_stack.hpp>

namespace creel::bench {
namespace {

struct shape {
    const char* name;
    std::size_t batch;
    bool waits;
};

constexpr shape shapes[] = {{"join", 1, false},
                            {"batch:100", 100, false},
                            {"join_wait", 1, true},
                            {"batch_wait:100", 100, true}};

// Runs some rounds to warm up, then the measured ones. `round` spawns and joins a batch and returns
// how many children ran to their end.
template <class Round>
void measure(meter& meter, std::size_t batch, Round round) {
    for (int i = 0; i < 16; ++i)
        round();
    std::uint64_t finished = 0;
    meter.measure([&] {
        for (auto left = meter.rounds(); left > 0; --left)
            finished += round();
    });
    if (finished != meter.rounds() * batch)
        throw std::runtime_error("not every child has run to its end");
}

template <bool Waits>
void creel_spawn(meter& meter, std::size_t batch) {
    io::run([&] {
        measure(meter, batch, [batch] {
            std::uint64_t finished = 0;
            with_nursery([&](nursery& children) {
                for (std::size_t i = 0; i < batch; ++i)
                    children.spawn([&finished] {
                        if constexpr (Waits)
                            this_fiber::yield();
                        ++finished;
                    });
            });
            return finished;
        });
    });
}

template <bool Waits>
void boost_fiber_spawn(meter& meter, std::size_t batch) {
    boost::fibers::pooled_fixedsize_stack stacks;
    std::vector<boost::fibers::fiber> children(batch);
    measure(meter, batch, [&] {
        std::uint64_t finished = 0;
        for (auto& child : children)
            child = boost::fibers::fiber{std::allocator_arg, stacks, [&finished] {
                                             if constexpr (Waits)
                                                 boost::this_fiber::yield();
                                             ++finished;
                                         }};
        for (auto& child : children)
            child.join();
        return finished;
    });
}

template <bool Waits>
[[gnu::noinline]] coroutine coroutine_child(std::uint64_t& finished) {
    if constexpr (Waits)
        co_await std::suspend_always{};
    ++finished;
}

// Creates, runs and destroys coroutines.
template <bool Waits>
void coroutine_spawn(meter& meter, std::size_t batch) {
    std::vector<coroutine> children(batch);
    measure(meter, batch, [&] {
        std::uint64_t finished = 0;
        for (auto& child : children)
            child = coroutine_child<Waits>(finished);
        for (int i = 0; i < (Waits ? 2 : 1); ++i)
            for (const auto& child : children)
                child.resume();
        for (auto& child : children)
            child.destroy();
        return finished;
    });
}

template <bool Waits>
void thread_spawn(meter& meter, std::size_t batch) {
    std::vector<std::thread> children(batch);
    measure(meter, batch, [&] {
        std::atomic<std::uint64_t> finished{0};
        for (auto& child : children)
            child = std::thread{[&finished] {
                if constexpr (Waits)
                    std::this_thread::yield();
                finished.fetch_add(1, std::memory_order_relaxed);
            }};
        for (auto& child : children)
            child.join();
        return finished.load();
    });
}

micro make() {
    micro result{"spawn"};
    for (const auto& [name, batch, waits] : shapes) {
        const micro_case what{name, batch};
        using function = void (*)(meter&, std::size_t);
        const auto add = [&, batch = batch, waits = waits](const char* candidate, bool is_control,
                                                           function at_once, function after_wait) {
            result.add(candidate, is_control, what,
                       [batch, run = waits ? after_wait : at_once](meter& m) { run(m, batch); });
        };
        add("creel", contender, creel_spawn<false>, creel_spawn<true>);
        add("boost_fiber", control, boost_fiber_spawn<false>, boost_fiber_spawn<true>);
        add("coroutine", control, coroutine_spawn<false>, coroutine_spawn<true>);
        add("std_thread", control, thread_spawn<false>, thread_spawn<true>);
    }
    result.uncounted("std_thread");
    return result;
}

const registration times{[] { return make().family(); }};
const registration instructions{[] { return make().instruction_family(); }};

} // namespace
} // namespace creel::bench
