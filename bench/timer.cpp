// The timer family: arms a timer and cancels it, among 100,000 others with random durations from 1
// ms to 60 s. Each operation that ends before its deadline does that. No clock is read: the times
// are made before.

#include "micro.hpp"

#include <creel/fibers/detail/time/timer_queue.hpp>
#include <creel/fibers/time.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <stdexcept>
#include <vector>

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/wait_traits.hpp>
#include <boost/system/error_code.hpp>

namespace creel::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t pending = 100'000;
constexpr std::size_t drawn = 4'096; // number of spans that are used in turn; a power of two

std::vector<duration> spans(std::size_t count, unsigned seed) {
    std::mt19937_64 random{seed};
    std::uniform_int_distribution<duration::rep> span{duration{1ms}.count(), duration{60s}.count()};
    std::vector<duration> result;
    for (std::size_t i = 0; i < count; ++i)
        result.emplace_back(span(random));
    return result;
}

void creel_arm_cancel(meter& meter) {
    detail::timer_queue queue;
    const time_point begin = clock::now();
    std::deque<detail::timer> others;
    for (const duration span : spans(pending, 1))
        queue.arm(others.emplace_back(), begin + span, span);
    const auto mine = spans(drawn, 2);
    detail::timer timer;
    meter.measure([&] {
        for (auto left = meter.rounds(); left > 0; --left) {
            const duration span = mine[left % drawn];
            queue.arm(timer, begin + span, span);
            queue.cancel(timer);
        }
    });
    if (queue.size() != pending)
        throw std::runtime_error("timers were lost");
    for (detail::timer& other : others)
        queue.cancel(other);
}

// A steady_timer whose executor is a concrete type and not any_io_executor.
using asio_timer = boost::asio::basic_waitable_timer<clock, boost::asio::wait_traits<clock>,
                                                     boost::asio::io_context::executor_type>;

// A cancelled wait completes with an error when the context polls, here after every 64 waits.
void asio_arm_cancel(meter& meter) {
    boost::asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE};
    const time_point begin = clock::now() + 1h; // no timer expires during the measurement
    std::uint64_t aborted = 0;
    const auto count = [&aborted](const boost::system::error_code& error) {
        aborted += error == boost::asio::error::operation_aborted;
    };
    {
        std::deque<asio_timer> others;
        for (const duration span : spans(pending, 1)) {
            auto& other = others.emplace_back(context);
            other.expires_at(begin + span);
            other.async_wait([](const boost::system::error_code&) {});
        }
        const auto mine = spans(drawn, 2);
        asio_timer timer{context};
        meter.measure([&] {
            for (auto left = meter.rounds(); left > 0; --left) {
                timer.expires_at(begin + mine[left % drawn]);
                timer.async_wait(count);
                timer.cancel();
                if (left % 64 == 0)
                    context.poll();
            }
            context.poll();
        });
    }
    if (aborted != meter.rounds())
        throw std::runtime_error("not every wait was cancelled");
}

micro make() {
    const micro_case what{"arm_cancel:100000", 1};
    return micro{"timer"}
        .add("creel", contender, what, creel_arm_cancel)
        .add("asio", control, what, asio_arm_cancel);
}

const registration times{[] { return make().family(); }};

} // namespace
} // namespace creel::bench
