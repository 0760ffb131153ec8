// The switch family: the cost of a switch from one fiber to the next. The fibers of a ring do
// nothing but yield; an operation is one yield. Two fibers show the cost of the code, 10,000 that
// of the cache.

#include "coroutine.hpp"
#include "micro.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/operations.hpp>
#include <boost/fiber/pooled_fixedsize_stack.hpp>

namespace creel::bench {
namespace {

constexpr std::size_t ring_sizes[] = {2, 100, 10'000};
constexpr int warm_up_rounds = 4; // the first gives every fiber its stack

// The data that all members of a ring share.
struct yielders {
    bench::meter& meter;
    std::size_t count;
    std::uint64_t yields = 0; // only measured ones

    void check() const {
        if (yields != meter.rounds() * count)
            throw std::runtime_error("not every fiber has yielded as often as asked");
    }
};

// The life of one member. Members take turns in order: between two turns of the first, each of the
// others has one turn. So only the first starts and stops the meter.
template <class Yield>
void take_part(yielders& all, bool is_first, Yield yield) {
    for (int i = 0; i < warm_up_rounds; ++i)
        yield();
    if (is_first)
        all.meter.start();
    for (auto left = all.meter.rounds(); left > 0; --left)
        yield();
    if (is_first)
        all.meter.stop();
    all.yields += all.meter.rounds();
}

void creel_yield(meter& meter, std::size_t count) {
    yielders all{meter, count};
    io::run([&](nursery& root) {
        for (std::size_t i = 0; i < count; ++i)
            root.spawn([&all, i] { take_part(all, i == 0, [] { this_fiber::yield(); }); });
    });
    all.check();
}

// The stacks are pooled: with 10,000 stacks from malloc a yield takes 30 to 130 ns, which depends
// on the age of the heap.
void boost_fiber_yield(meter& meter, std::size_t count) {
    yielders all{meter, count};
    boost::fibers::pooled_fixedsize_stack stacks;
    std::vector<boost::fibers::fiber> fibers(count);
    for (std::size_t i = 0; i < count; ++i)
        fibers[i] =
            boost::fibers::fiber{std::allocator_arg, stacks, [&all, i] {
                                     take_part(all, i == 0, [] { boost::this_fiber::yield(); });
                                 }};
    for (auto& fiber : fibers)
        fiber.join();
    all.check();
}

// Each fiber resumes the next, and stores the context that resumed it in the place of its
// predecessor. When the rounds are over each fiber ends and resumes the next; the last one resumes
// the caller.
void boost_context_resume(meter& meter, std::size_t count) {
    using boost::context::fiber;
    yielders all{meter, count};
    boost::context::pooled_fixedsize_stack stacks;
    std::vector<fiber> ring(count);
    fiber caller;
    for (std::size_t i = 0; i < count; ++i)
        ring[i] = fiber{std::allocator_arg, stacks, [&, i](fiber&& resumed_by) {
                            fiber& next = ring[(i + 1) % count];
                            fiber& previous = ring[(i + count - 1) % count];
                            (i == 0 ? caller : previous) = std::move(resumed_by);
                            take_part(all, i == 0, [&] { previous = std::move(next).resume(); });
                            return std::move(i + 1 == count ? caller : next);
                        }};
    std::move(ring[0]).resume();
    all.check();
}

[[gnu::noinline]] coroutine suspend_in_turns(yielders& all) {
    for (int i = 0; i < warm_up_rounds; ++i)
        co_await std::suspend_always{};
    for (auto left = all.meter.rounds(); left > 0; --left)
        co_await std::suspend_always{};
    all.yields += all.meter.rounds();
}

// A loop resumes one coroutine after the other.
void coroutine_suspend(meter& meter, std::size_t count) {
    yielders all{meter, count};
    std::vector<coroutine> coroutines(count);
    for (auto& one : coroutines)
        one = suspend_in_turns(all);
    const auto resume_all = [&] {
        for (const auto& one : coroutines)
            one.resume();
    };
    for (int i = 0; i < warm_up_rounds; ++i)
        resume_all();
    meter.measure([&] {
        for (auto left = meter.rounds(); left > 0; --left)
            resume_all();
    });
    resume_all(); // from the last suspension to the end
    all.check();
}

micro make() {
    micro result{"switch"};
    for (const std::size_t count : ring_sizes) {
        const micro_case what{"fibers:" + std::to_string(count), count};
        const auto with_count = [count](void (*run)(meter&, std::size_t)) {
            return [=](meter& meter) { run(meter, count); };
        };
        result.add("creel", contender, what, with_count(creel_yield));
        result.add("boost_fiber", control, what, with_count(boost_fiber_yield));
        result.add("boost_context", control, what, with_count(boost_context_resume));
        result.add("coroutine", control, what, with_count(coroutine_suspend));
    }
    return result;
}

const registration times{[] { return make().family(); }};
const registration instructions{[] { return make().instruction_family(); }};

} // namespace
} // namespace creel::bench
