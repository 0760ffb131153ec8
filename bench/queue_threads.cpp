// The queue family between two threads, each on a core of its own, in wall-clock time: a stream of
// messages through a queue of 1,024, and single round trips, where each side sleeps until the
// message of the other comes. In `_spin` a side looks for the message for a while before it sleeps.

#include "harness.hpp"
#include "two_threads.hpp"

#include <creel/io/run.hpp>
#include <creel/sync/queue.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include <boost/fiber/buffered_channel.hpp>

using namespace std::chrono_literals;

namespace creel::bench {
namespace {

constexpr std::size_t stream_capacity = 1024;
constexpr std::size_t pingpong_capacity = 1;

// The queue that a program without creel would write.
class locked_queue {
public:
    explicit locked_queue(std::size_t capacity) : capacity_(capacity) {}
    void push(std::uint64_t message) {
        std::unique_lock lock{mutex_};
        room_.wait(lock, [&] { return messages_.size() < capacity_; });
        messages_.push_back(message);
        lock.unlock();
        filled_.notify_one();
    }
    std::uint64_t pop() {
        std::unique_lock lock{mutex_};
        filled_.wait(lock, [&] { return !messages_.empty(); });
        const auto message = messages_.front();
        messages_.pop_front();
        lock.unlock();
        room_.notify_one();
        return message;
    }

private:
    std::mutex mutex_;
    std::condition_variable filled_;
    std::condition_variable room_;
    std::deque<std::uint64_t> messages_;
    std::size_t capacity_;
};

struct creel_queue {
    explicit creel_queue(std::size_t capacity) : messages(capacity) {}
    void push(std::uint64_t message) { static_cast<void>(messages.push(std::move(message))); }
    std::uint64_t pop() { return messages.pop().value(); }
    sync::queue<std::uint64_t> messages;
};

struct boost_queue {
    // The capacity is a power of two, and one place stays free.
    explicit boost_queue(std::size_t capacity) : messages(capacity < 2 ? 2 : capacity) {}
    void push(std::uint64_t message) { messages.push(message); }
    std::uint64_t pop() { return messages.value_pop(); }
    boost::fibers::buffered_channel<std::uint64_t> messages;
};

void check(std::uint64_t sum, std::uint64_t messages) {
    if (sum != messages * (messages - 1) / 2)
        throw std::runtime_error("messages were lost or doubled");
}

template <class Queue>
double stream(const runner& run, std::uint64_t rounds) {
    Queue messages{stream_capacity};
    std::uint64_t sum = 0;
    const double result = time_both(
        run, rounds,
        [&] {
            for (std::uint64_t i = 0; i < rounds; ++i)
                sum += messages.pop();
        },
        [&] {
            for (std::uint64_t i = 0; i < rounds; ++i)
                messages.push(i);
        });
    check(sum, rounds);
    return result;
}

template <class Queue>
double pingpong(const runner& run, std::uint64_t rounds) {
    Queue there{pingpong_capacity};
    Queue back{pingpong_capacity};
    std::uint64_t sum = 0;
    const double result = time_both(
        run, rounds,
        [&] {
            for (std::uint64_t i = 0; i < rounds; ++i) {
                there.push(i);
                sum += back.pop();
            }
        },
        [&] {
            for (std::uint64_t i = 0; i < rounds; ++i)
                back.push(there.pop());
        });
    check(sum, rounds);
    return result;
}

void on_spinning_ring(const std::function<void()>& part) {
    io::run({.idle_spin = 20us}, [&] { part(); });
}

struct subject {
    const char* name;
    bool is_control;
    double (*stream)(const runner&, std::uint64_t);
    double (*pingpong)(const runner&, std::uint64_t);
    void (*run)(const std::function<void()>&);
    void (*run_spinning)(const std::function<void()>&); // null: it cannot spin
};

constexpr subject subjects[] = {
    {"creel", false, stream<creel_queue>, pingpong<creel_queue>, on_ring, on_spinning_ring},
    {"creel_plain_threads", false, stream<creel_queue>, pingpong<creel_queue>, on_thread, nullptr},
    {"boost_fiber", true, stream<boost_queue>, pingpong<boost_queue>, on_thread, nullptr},
    {"std_thread", true, stream<locked_queue>, pingpong<locked_queue>, on_thread, nullptr},
};

family make() {
    family result;
    result.name = "queue";
    result.figures = {{"", "ns"}};
    result.cases = {"threads_stream", "threads_pingpong", "threads_pingpong_spin"};
    for (const subject& one : subjects)
        result.candidates.push_back({one.name,
                                     one.is_control,
                                     [one](std::size_t case_index, const effort& effort) {
                                         const std::uint64_t scale = effort.quick ? 1 : 5;
                                         switch (case_index) {
                                         case 0:
                                             return values{one.stream(one.run, 200'000 * scale)};
                                         case 1:
                                             return values{one.pingpong(one.run, 2'000 * scale)};
                                         default:
                                             return values{
                                                 one.pingpong(one.run_spinning, 20'000 * scale)};
                                         }
                                     },
                                     {},
                                     [one](std::size_t case_index) {
                                         return case_index != 2 || one.run_spinning != nullptr;
                                     }});
    return result;
}

const registration times{make};

} // namespace
} // namespace creel::bench
