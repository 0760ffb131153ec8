// The event family. `pingpong`: two fibers, or threads, each of which sets the event that the other
// waits for. An operation is a round trip.

#include "micro.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/io/run.hpp>
#include <creel/sync/event.hpp>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <thread>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/fiber/condition_variable.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>

namespace creel::bench {
namespace {

void check(const meter& meter, std::uint64_t answered) {
    if (answered != meter.rounds())
        throw std::runtime_error("not every event was answered");
}

template <class Event>
std::uint64_t answer(meter& meter, Event& there, Event& back) {
    std::uint64_t answered = 0;
    for (auto left = meter.rounds(); left > 0; --left) {
        there.wait();
        ++answered;
        back.set();
    }
    return answered;
}

template <class Event>
void ask(meter& meter, Event& there, Event& back) {
    meter.measure([&] {
        for (auto left = meter.rounds(); left > 0; --left) {
            there.set();
            back.wait();
        }
    });
}

void creel_pingpong(meter& meter) {
    sync::event there{sync::event::automatic};
    sync::event back{sync::event::automatic};
    std::uint64_t answered = 0;
    io::run([&](nursery& root) {
        root.spawn([&] { answered = answer(meter, there, back); });
        ask(meter, there, back);
    });
    check(meter, answered);
}

// Boost.Fiber and std have no event: one made of their mutex and condition variable.
template <class Mutex, class Condition>
class made_event {
public:
    void set() {
        {
            const std::lock_guard hold{mutex_};
            set_ = true;
        }
        changed_.notify_one();
    }
    void wait() {
        std::unique_lock hold{mutex_};
        changed_.wait(hold, [&] { return set_; });
        set_ = false;
    }

private:
    Mutex mutex_;
    Condition changed_;
    bool set_ = false;
};

void boost_fiber_pingpong(meter& meter) {
    made_event<boost::fibers::mutex, boost::fibers::condition_variable> there;
    made_event<boost::fibers::mutex, boost::fibers::condition_variable> back;
    std::uint64_t answered = 0;
    boost::fibers::fiber other{[&] { answered = answer(meter, there, back); }};
    ask(meter, there, back);
    other.join();
    check(meter, answered);
}

void std_thread_pingpong(meter& meter) {
    made_event<std::mutex, std::condition_variable> there;
    made_event<std::mutex, std::condition_variable> back;
    std::uint64_t answered = 0;
    std::thread other{[&] { answered = answer(meter, there, back); }};
    ask(meter, there, back);
    other.join();
    check(meter, answered);
}

// The executor is a concrete type and not any_io_executor.
using executor = boost::asio::io_context::executor_type;
using channel = boost::asio::experimental::channel<executor, void(boost::system::error_code)>;
using awaitable = boost::asio::awaitable<void, executor>;
constexpr auto nothrow = boost::asio::as_tuple(boost::asio::deferred); // needs no frame of its own
using boost::system::error_code;
constexpr auto received = [](error_code) {};

awaitable channel_answer(meter& meter, channel& there, channel& back, std::uint64_t& answered) {
    for (auto left = meter.rounds(); left > 0; --left) {
        if (!there.try_receive(received))
            co_await there.async_receive(nothrow);
        ++answered;
        if (!back.try_send(error_code{}))
            co_await back.async_send(error_code{}, nothrow);
    }
}

awaitable channel_ask(meter& meter, channel& there, channel& back) {
    meter.start();
    for (auto left = meter.rounds(); left > 0; --left) {
        if (!there.try_send(error_code{}))
            co_await there.async_send(error_code{}, nothrow);
        if (!back.try_receive(received))
            co_await back.async_receive(nothrow);
    }
    meter.stop();
}

void asio_channel_pingpong(meter& meter) {
    boost::asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread
    channel there{context, 1};
    channel back{context, 1};
    std::uint64_t answered = 0;
    co_spawn(context, channel_answer(meter, there, back, answered), boost::asio::detached);
    co_spawn(context, channel_ask(meter, there, back), boost::asio::detached);
    context.run();
    check(meter, answered);
}

micro make() {
    return micro{"event"}
        .add("creel", contender, {"pingpong"}, creel_pingpong)
        .add("boost_fiber", control, {"pingpong"}, boost_fiber_pingpong)
        .add("std_thread", control, {"pingpong"}, std_thread_pingpong)
        .add("asio_channel", control, {"pingpong"}, asio_channel_pingpong)
        .uncounted("std_thread");
}

const registration times{[] { return make().family(); }};
const registration instructions{[] { return make().instruction_family(); }};

} // namespace
} // namespace creel::bench
