// The queue family on one thread: the cost of handing a message from fiber to fiber. `stream` is
// one message of many through a queue that is rarely full or empty. `pingpong` is a message there
// and one back, each through a queue of its own, so that both sides wait each time.

#include "micro.hpp"

#include "same_job/coroutine/group.hpp"
#include "same_job/coroutine/loop.hpp"
#include "same_job/coroutine/queue.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/io/run.hpp>
#include <creel/sync/queue.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/fiber/buffered_channel.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/unbuffered_channel.hpp>

namespace creel::bench {
namespace {

constexpr std::size_t stream_capacity = 1024;

// The sum of the messages that the receiving side has got.
struct check_sum {
    std::uint64_t sum = 0;
    void add(std::uint64_t message) { sum += message; }
    void check(std::uint64_t messages) const {
        if (sum != messages * (messages - 1) / 2)
            throw std::runtime_error("messages were lost or doubled");
    }
};

// ---- creel --------------------------------------------------------------------------------------

void creel_stream(meter& meter, std::size_t capacity) {
    check_sum seen;
    io::run([&] {
        sync::queue<std::uint64_t> messages{capacity};
        with_nursery([&](nursery& both) {
            both.spawn([&] {
                for (auto left = meter.rounds(); left > 0; --left)
                    seen.add(messages.pop().value());
                meter.stop();
            });
            meter.start();
            for (std::uint64_t i = 0; i < meter.rounds(); ++i)
                static_cast<void>(messages.push(std::uint64_t{i}));
        });
    });
    seen.check(meter.rounds());
}

void creel_pingpong(meter& meter, std::size_t capacity) {
    check_sum seen;
    io::run([&] {
        sync::queue<std::uint64_t> there{capacity};
        sync::queue<std::uint64_t> back{capacity};
        with_nursery([&](nursery& both) {
            both.spawn([&] {
                while (auto message = there.pop())
                    static_cast<void>(back.push(*message));
            });
            meter.start();
            for (std::uint64_t i = 0; i < meter.rounds(); ++i) {
                static_cast<void>(there.push(std::uint64_t{i}));
                seen.add(back.pop().value());
            }
            meter.stop();
            there.close();
        });
    });
    seen.check(meter.rounds());
}

// ---- Boost.Fiber --------------------------------------------------------------------------------

void boost_fiber_stream(meter& meter, std::size_t capacity) {
    check_sum seen;
    boost::fibers::buffered_channel<std::uint64_t> messages{capacity};
    boost::fibers::fiber consumer{[&] {
        for (auto left = meter.rounds(); left > 0; --left)
            seen.add(messages.value_pop());
        meter.stop();
    }};
    meter.start();
    for (std::uint64_t i = 0; i < meter.rounds(); ++i)
        messages.push(i);
    consumer.join();
    seen.check(meter.rounds());
}

template <class Channel>
void boost_fiber_play(meter& meter, Channel& there, Channel& back) {
    check_sum seen;
    boost::fibers::fiber partner{[&] {
        std::uint64_t message = 0;
        while (there.pop(message) == boost::fibers::channel_op_status::success)
            back.push(message);
    }};
    meter.start();
    for (std::uint64_t i = 0; i < meter.rounds(); ++i) {
        there.push(i);
        seen.add(back.value_pop());
    }
    meter.stop();
    there.close();
    partner.join();
    seen.check(meter.rounds());
}

void boost_fiber_pingpong(meter& meter, std::size_t capacity) {
    if (capacity == 0) {
        boost::fibers::unbuffered_channel<std::uint64_t> there;
        boost::fibers::unbuffered_channel<std::uint64_t> back;
        boost_fiber_play(meter, there, back);
    } else { // the channel refuses capacity 1; with {2} it holds one item
        boost::fibers::buffered_channel<std::uint64_t> there{2};
        boost::fibers::buffered_channel<std::uint64_t> back{2};
        boost_fiber_play(meter, there, back);
    }
}

// ---- the coroutines of same_job -----------------------------------------------------------------

namespace coroutines = ::same_job::coroutine;
using coroutine_queue = coroutines::queue<std::uint64_t>;

coroutines::task<> coroutine_receive(coroutine_queue& messages, meter& meter, check_sum& seen) {
    for (auto left = meter.rounds(); left > 0; --left)
        seen.add((co_await messages.pop()).value());
    meter.stop();
}

coroutines::task<> coroutine_serve(coroutine_queue& there, coroutine_queue& back) {
    while (const auto message = co_await there.pop())
        static_cast<void>(co_await back.push(*message));
}

coroutines::task<> coroutine_stream_all(meter& meter, std::size_t capacity, check_sum& seen) {
    coroutine_queue messages{capacity};
    co_await coroutines::with_group([&](coroutines::group& both) -> coroutines::task<> {
        both.spawn(coroutine_receive(messages, meter, seen));
        meter.start();
        for (std::uint64_t i = 0; i < meter.rounds(); ++i)
            static_cast<void>(co_await messages.push(i));
    });
}

coroutines::task<> coroutine_return_all(meter& meter, std::size_t capacity, check_sum& seen) {
    coroutine_queue there{capacity};
    coroutine_queue back{capacity};
    co_await coroutines::with_group([&](coroutines::group& both) -> coroutines::task<> {
        both.spawn(coroutine_serve(there, back));
        meter.start();
        for (std::uint64_t i = 0; i < meter.rounds(); ++i) {
            static_cast<void>(co_await there.push(i));
            seen.add((co_await back.pop()).value());
        }
        meter.stop();
        there.close();
    });
}

void coroutine_stream(meter& meter, std::size_t capacity) {
    check_sum seen;
    coroutines::run(coroutine_stream_all(meter, capacity, seen));
    seen.check(meter.rounds());
}

void coroutine_pingpong(meter& meter, std::size_t capacity) {
    check_sum seen;
    coroutines::run(coroutine_return_all(meter, capacity, seen));
    seen.check(meter.rounds());
}

// ---- Asio ---------------------------------------------------------------------------------------

namespace asio = boost::asio;
// The executor is a concrete type and not any_io_executor.
using executor = asio::io_context::executor_type;
using asio_channel =
    asio::experimental::channel<executor, void(boost::system::error_code, std::uint64_t)>;
using awaitable = asio::awaitable<void, executor>;
using boost::system::error_code;
constexpr auto nothrow = asio::as_tuple(asio::deferred); // needs no frame of its own

// As in same_job: each side tries without a wait first, because even an operation that completes at
// once passes through Asio's scheduler.
awaitable asio_send(asio_channel& messages, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i)
        if (!messages.try_send(error_code{}, i))
            co_await messages.async_send(error_code{}, i, nothrow);
}

awaitable asio_receive(asio_channel& messages, std::uint64_t count, check_sum& seen) {
    error_code error;
    std::uint64_t message = 0;
    const auto take = [&](error_code e, std::uint64_t m) { error = e, message = m; };
    for (; count > 0; --count) {
        if (!messages.try_receive(take))
            std::tie(error, message) = co_await messages.async_receive(nothrow);
        seen.add(message);
    }
}

awaitable asio_serve(asio_channel& there, asio_channel& back, std::uint64_t count) {
    error_code error;
    std::uint64_t message = 0;
    const auto take = [&](error_code e, std::uint64_t m) { error = e, message = m; };
    for (; count > 0; --count) {
        if (!there.try_receive(take))
            std::tie(error, message) = co_await there.async_receive(nothrow);
        if (!back.try_send(error_code{}, message))
            co_await back.async_send(error_code{}, message, nothrow);
    }
}

awaitable asio_return(asio_channel& there, asio_channel& back, std::uint64_t count,
                      check_sum& seen) {
    error_code error;
    std::uint64_t message = 0;
    const auto take = [&](error_code e, std::uint64_t m) { error = e, message = m; };
    for (std::uint64_t i = 0; i < count; ++i) {
        if (!there.try_send(error_code{}, i))
            co_await there.async_send(error_code{}, i, nothrow);
        if (!back.try_receive(take))
            std::tie(error, message) = co_await back.async_receive(nothrow);
        seen.add(message);
    }
}

void asio_stream(meter& meter, std::size_t capacity) {
    check_sum seen;
    asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread
    asio_channel messages{context, capacity};
    asio::co_spawn(context, asio_receive(messages, meter.rounds(), seen), asio::detached);
    asio::co_spawn(context, asio_send(messages, meter.rounds()), asio::detached);
    meter.measure([&] { context.run(); });
    seen.check(meter.rounds());
}

void asio_pingpong(meter& meter, std::size_t capacity) {
    check_sum seen;
    asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread
    asio_channel there{context, capacity};
    asio_channel back{context, capacity};
    asio::co_spawn(context, asio_serve(there, back, meter.rounds()), asio::detached);
    asio::co_spawn(context, asio_return(there, back, meter.rounds(), seen), asio::detached);
    meter.measure([&] { context.run(); });
    seen.check(meter.rounds());
}

micro make() {
    micro result{"queue"};
    const auto add = [&](const char* name, std::size_t capacity, auto creel, auto fiber,
                         auto coroutine, auto asio) {
        const micro_case what{name + (":" + std::to_string(capacity)), 1};
        const auto with_capacity = [capacity](auto run) {
            return [=](meter& meter) { run(meter, capacity); };
        };
        result.add("creel", contender, what, with_capacity(creel));
        result.add("boost_fiber", control, what, with_capacity(fiber));
        result.add("coroutine", control, what, with_capacity(coroutine));
        result.add("asio_channel", control, what, with_capacity(asio));
    };
    add("stream", stream_capacity, creel_stream, boost_fiber_stream, coroutine_stream, asio_stream);
    add("pingpong", 1, creel_pingpong, boost_fiber_pingpong, coroutine_pingpong, asio_pingpong);
    add("pingpong", 0, creel_pingpong, boost_fiber_pingpong, coroutine_pingpong, asio_pingpong);
    return result;
}

const registration times{[] { return make().family(); }};
const registration instructions{[] { return make().instruction_family(); }};

} // namespace
} // namespace creel::bench
