// The scope family: the cost of structure. `async_get` starts one child and gets its result.
// `all:3` runs three functions that do not wait. `fail_after:100000` enters and leaves a deadline
// that does not fire, while 100,000 others are pending, with random durations from 1 ms to 60 s. It
// reads the clock once; that read alone is one of its controls. The other is the timeout of
// same_job's coroutines around a task, among as many timers in the heap of their loop.

#include "micro.hpp"

#include "same_job/coroutine/loop.hpp"
#include "same_job/coroutine/sleep.hpp"

#include <creel/fibers/all.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <stdexcept>
#include <tuple>
#include <vector>

#include <boost/fiber/future.hpp>
#include <boost/fiber/operations.hpp>
#include <boost/fiber/pooled_fixedsize_stack.hpp>

namespace creel::bench {
namespace {

using namespace std::chrono_literals;

namespace coroutines = ::same_job::coroutine;

constexpr std::size_t other_deadlines = 100'000;
constexpr int warm_up_rounds = 64;

// Those of the other deadlines.
class random_durations {
public:
    duration next() { return duration{span_(random_)}; }

private:
    std::mt19937_64 random_{20'260'801};
    std::uniform_int_distribution<duration::rep> span_{duration{1ms}.count(),
                                                       duration{60s}.count()};
};

void check_sum(const meter& meter, std::uint64_t sum) {
    if (sum != meter.rounds())
        throw std::runtime_error("not every round has done its work");
}

// Runs some rounds to warm up, then the measured ones. `round` returns 1; the sum keeps the
// compiler from removing the work.
template <class Round>
void measure(meter& meter, Round round) {
    for (int i = 0; i < warm_up_rounds; ++i)
        static_cast<void>(round());
    std::uint64_t sum = 0;
    meter.measure([&] {
        for (auto left = meter.rounds(); left > 0; --left)
            sum += round();
    });
    check_sum(meter, sum);
}

void creel_async_get(meter& meter) {
    io::run([&](nursery& n) {
        std::uint64_t one = 1;
        measure(meter, [&] { return n.async([&one] { return one; }).get(); });
    });
}

void boost_fiber_async_get(meter& meter) {
    boost::fibers::pooled_fixedsize_stack stacks;
    std::uint64_t one = 1;
    measure(meter, [&] {
        return boost::fibers::async(boost::fibers::launch::post, std::allocator_arg, stacks,
                                    [&one] { return one; })
            .get();
    });
}

void creel_all(meter& meter) {
    io::run([&] {
        std::uint64_t a = 1;
        std::uint64_t b = 2;
        std::uint64_t c = 4;
        measure(meter, [&] {
            const auto [x, y, z] = all([&a] { return a; }, [&b] { return b; }, [&c] { return c; });
            return z - y - x;
        });
    });
}

// Timers in the queue of the running scheduler, as sleeping fibers have them.
class pending_deadlines {
public:
    pending_deadlines() : timers_(other_deadlines) {
        random_durations durations;
        for (auto& t : timers_) {
            t.fire = [](detail::timer&) noexcept {};
            const duration d = durations.next();
            detail::this_scheduler->arm(t, now() + d, d);
        }
    }
    ~pending_deadlines() {
        for (auto& t : timers_)
            detail::this_scheduler->cancel(t);
    }
    pending_deadlines(const pending_deadlines&) = delete;
    pending_deadlines& operator=(const pending_deadlines&) = delete;

private:
    std::vector<detail::timer> timers_;
};

void creel_fail_after(meter& meter) {
    io::run([&] {
        const pending_deadlines others;
        measure(meter, [] { return fail_after(30s, [] { return std::uint64_t{1}; }); });
    });
}

// The same in the heap of a loop of coroutines.
class pending_timers {
public:
    pending_timers() {
        random_durations durations;
        for (std::size_t i = 0; i < other_deadlines; ++i)
            coroutines::loop::current().timers().arm(
                timers_.emplace_back([](coroutines::timer&) noexcept {}),
                coroutines::clock::now() + durations.next());
    }
    ~pending_timers() {
        for (auto& t : timers_)
            coroutines::loop::current().timers().disarm(t);
    }
    pending_timers(const pending_timers&) = delete;
    pending_timers& operator=(const pending_timers&) = delete;

private:
    std::deque<coroutines::timer> timers_{};
};

coroutines::task<std::uint64_t> one() {
    co_return 1;
}

coroutines::task<> measure_timeouts(meter& meter) {
    const pending_timers others;
    for (int i = 0; i < warm_up_rounds; ++i)
        static_cast<void>(co_await coroutines::timeout(30s, one()));
    std::uint64_t sum = 0;
    meter.start();
    for (auto left = meter.rounds(); left > 0; --left)
        sum += co_await coroutines::timeout(30s, one());
    meter.stop();
    check_sum(meter, sum);
}

void coroutine_fail_after(meter& meter) {
    coroutines::run(measure_timeouts(meter));
}

void clock_read(meter& meter) {
    measure(meter, [] { return std::uint64_t{clock::now() != time_point{} ? 1U : 0U}; });
}

micro make() {
    return micro{"scope"}
        .add("creel", contender, {"async_get"}, creel_async_get)
        .add("boost_fiber", control, {"async_get"}, boost_fiber_async_get)
        .add("creel", contender, {"all:3"}, creel_all)
        .add("creel", contender, {"fail_after:100000"}, creel_fail_after)
        .add("coroutine", control, {"fail_after:100000"}, coroutine_fail_after)
        .add("clock", control, {"fail_after:100000"}, clock_read);
}

const registration times{[] { return make().family(); }};
const registration instructions{[] { return make().instruction_family(); }};

} // namespace
} // namespace creel::bench
