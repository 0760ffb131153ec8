// A library of the program's that uses Boost.Fiber by itself, through libboost_fiber.so.
#include <boost/fiber/buffered_channel.hpp>
#include <boost/fiber/condition_variable.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/future.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>

#include <chrono>
#include <mutex>
#include <utility>

// Waits in each of Boost's ways, for fibers of its own, and returns 1 + ... + n.
extern "C" __attribute__((visibility("default"))) long boost_library_work(int n) {
    boost::fibers::buffered_channel<int> numbers{2};
    boost::fibers::fiber producer{[&] {
        for (int i = 1; i <= n; ++i) {
            numbers.push(i);
            boost::this_fiber::sleep_for(std::chrono::milliseconds{1});
        }
        numbers.close();
    }};
    boost::fibers::promise<long> promise;
    auto sum = promise.get_future();
    boost::fibers::mutex mutex;
    boost::fibers::condition_variable changed;
    bool summed = false;
    boost::fibers::fiber consumer{[&] {
        long all = 0;
        for (const int i : numbers)
            all += i;
        const std::lock_guard lock{mutex};
        summed = true;
        changed.notify_one();
        promise.set_value(all);
    }};
    {
        std::unique_lock lock{mutex};
        changed.wait(lock, [&] { return summed; });
    }
    producer.join();
    consumer.join();
    return sum.get();
}
