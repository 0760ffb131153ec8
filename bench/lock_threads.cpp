// The mutex, semaphore and shared_mutex families between two threads, each on a core of its own, in
// wall-clock time. In `threads:2` both threads lock and unlock the same object in a loop, with a
// little work inside. In `fibers_threads:8` four fibers, or Boost fibers, on each thread do that.

#include "harness.hpp"
#include "two_threads.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/semaphore.hpp>
#include <creel/sync/shared_mutex.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>

namespace creel::bench {
namespace {

constexpr std::uint64_t fibers_each = 4;

// A semaphore of one permit, used as a mutex.
template <class Semaphore>
class binary {
public:
    void lock() { one_.acquire(); }
    void unlock() { one_.release(); }

private:
    Semaphore one_{1};
};

// Runs the part on four fibers of this thread.
void on_fibers(const std::function<void()>& part) {
    with_nursery([&](nursery& n) {
        for (std::uint64_t i = 0; i < fibers_each; ++i)
            n.spawn([&] { part(); });
    });
}
void on_boost_fibers(const std::function<void()>& part) {
    std::array<boost::fibers::fiber, fibers_each> all;
    for (auto& one : all)
        one = boost::fibers::fiber{[&] { part(); }};
    for (auto& one : all)
        one.join();
}

// Nanoseconds per lock and unlock.
template <class Mutex>
double contend(const runner& run, const runner& on_each, std::uint64_t parts_each,
               std::uint64_t locks) {
    Mutex m;
    std::uint64_t inside = 0; // guarded by m
    const std::uint64_t each = locks / (2 * parts_each);
    const auto one = [&] {
        for (auto left = each; left > 0; --left) {
            m.lock();
            ++inside;
            m.unlock();
        }
    };
    const auto side = [&] { on_each(one); };
    const double result = time_both(run, locks, side, side, until::both);
    if (inside != 2 * parts_each * each)
        throw std::runtime_error("locks did not exclude each other");
    return result;
}

struct subject {
    const char* name;
    bool is_control;
    std::function<double(std::uint64_t locks)> threads; // null: it has no such case
    std::function<double(std::uint64_t locks)> fibers;
};

template <class Mutex>
std::function<double(std::uint64_t)> threads_of() {
    return [](std::uint64_t locks) { return contend<Mutex>(on_thread, on_thread, 1, locks); };
}
template <class Mutex>
std::function<double(std::uint64_t)> creel_fibers_of() {
    return
        [](std::uint64_t locks) { return contend<Mutex>(on_ring, on_fibers, fibers_each, locks); };
}

family make(const char* name, std::initializer_list<subject> subjects) {
    family result;
    result.name = name;
    result.figures = {{"", "ns"}};
    result.cases = {"threads:2", "fibers_threads:8"};
    for (const subject& one : subjects) {
        const auto of = [one](std::size_t case_index) {
            return case_index == 0 ? one.threads : one.fibers;
        };
        result.candidates.push_back(
            {one.name,
             one.is_control,
             [of](std::size_t case_index, const effort& effort) {
                 return values{of(case_index)(effort.quick ? 200'000 : 2'000'000)};
             },
             {},
             [of](std::size_t case_index) { return of(case_index) != nullptr; }});
    }
    return result;
}

const registration mutexes{[] {
    return make("mutex",
                {{"creel", false, threads_of<sync::mutex>(), creel_fibers_of<sync::mutex>()},
                 {"std_thread", true, threads_of<std::mutex>(), {}},
                 {"boost_fiber", true, {}, [](std::uint64_t locks) {
                      return contend<boost::fibers::mutex>(on_thread, on_boost_fibers, fibers_each,
                                                           locks);
                  }}});
}};
const registration semaphores{[] {
    return make("semaphore",
                {{"creel", false, threads_of<binary<sync::semaphore>>(),
                  creel_fibers_of<binary<sync::semaphore>>()},
                 {"std_thread", true, threads_of<binary<std::counting_semaphore<>>>(), {}}});
}};
const registration shared_mutexes{[] {
    return make("shared_mutex", {{"creel", false, threads_of<sync::shared_mutex>(),
                                  creel_fibers_of<sync::shared_mutex>()},
                                 {"std_thread", true, threads_of<std::shared_mutex>(), {}}});
}};

} // namespace
} // namespace creel::bench
