// The mutex family. `free`: a lock and an unlock without contention. Its limit is `atomic`, two
// CASes on one word. `handover`: two fibers lock in turn. An operation is one hand-over, from the
// unlock of one fiber to the lock of the other, which waits for it already.

#include "micro.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>
#include <creel/sync/mutex.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <stdexcept>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>

namespace creel::bench {
namespace {

constexpr int warm_up_rounds = 4;

template <class Mutex>
void lock_free_one(meter& meter, Mutex& m) {
    std::uint64_t inside = 0;
    meter.measure([&] {
        for (auto left = meter.rounds(); left > 0; --left) {
            m.lock();
            ++inside;
            m.unlock();
        }
    });
    if (inside != meter.rounds())
        throw std::runtime_error("not every lock was taken");
}

// The least that a mutex can do.
class two_cases {
public:
    void lock() {
        std::uintptr_t expected = 0;
        if (!word_.compare_exchange_strong(expected, 1, std::memory_order_acquire))
            throw std::runtime_error("nobody else locks it");
    }
    void unlock() {
        std::uintptr_t expected = 1;
        if (!word_.compare_exchange_strong(expected, 0, std::memory_order_release))
            throw std::runtime_error("it was locked");
    }

private:
    std::atomic<std::uintptr_t> word_{0};
};

// Two fibers that take part in turn. The unlock of one hands over to the other, which waits; then
// the lock of the first one waits.
template <class Mutex, class Yield>
class pair {
public:
    pair(meter& measured, Mutex& m, Yield yield) : meter_(measured), mutex_(m), yield_(yield) {}

    void take_part(bool is_first) {
        mutex_.lock();
        yield_(); // now the other fiber waits for the mutex
        for (int i = 0; i < warm_up_rounds; ++i)
            relock();
        if (is_first)
            meter_.start();
        for (auto left = meter_.rounds(); left > 0; --left)
            relock();
        if (is_first)
            meter_.stop();
        mutex_.unlock();
        handed_ += meter_.rounds();
    }
    void check() const {
        if (handed_ != 2 * meter_.rounds())
            throw std::runtime_error("not every hand-over has been made");
    }

private:
    void relock() {
        mutex_.unlock();
        mutex_.lock();
    }

    bench::meter& meter_;
    Mutex& mutex_;
    Yield yield_;
    std::uint64_t handed_ = 0;
};

void creel_free(meter& meter) {
    io::run([&] {
        sync::mutex m;
        lock_free_one(meter, m);
    });
}

void creel_handover(meter& meter) {
    sync::mutex m;
    pair both{meter, m, [] { this_fiber::yield(); }};
    io::run([&](nursery& root) {
        for (const bool is_first : {true, false})
            root.spawn([&both, is_first] { both.take_part(is_first); });
    });
    both.check();
}

void boost_fiber_free(meter& meter) {
    boost::fibers::mutex m;
    lock_free_one(meter, m);
}

// Boost's mutex does not hand over. A fiber that yields between its unlock and its next lock lets
// the other fiber lock it.
class boost_mutex {
public:
    void lock() { mutex_.lock(); }
    void unlock() {
        mutex_.unlock();
        boost::this_fiber::yield();
    }

private:
    boost::fibers::mutex mutex_;
};

void boost_fiber_handover(meter& meter) {
    boost_mutex m;
    pair both{meter, m, [] { boost::this_fiber::yield(); }};
    boost::fibers::fiber first{[&] { both.take_part(true); }};
    boost::fibers::fiber second{[&] { both.take_part(false); }};
    first.join();
    second.join();
    both.check();
}

void std_thread_free(meter& meter) {
    std::mutex m;
    lock_free_one(meter, m);
}

void atomic_free(meter& meter) {
    two_cases m;
    lock_free_one(meter, m);
}

micro make() {
    const micro_case free{"free"};
    const micro_case handover{"handover", 2};
    return micro{"mutex"}
        .add("creel", contender, free, creel_free)
        .add("creel", contender, handover, creel_handover)
        .add("boost_fiber", control, free, boost_fiber_free)
        .add("boost_fiber", control, handover, boost_fiber_handover)
        .add("std_thread", control, free, std_thread_free)
        .add("atomic", control, free, atomic_free);
}

const registration times{[] { return make().family(); }};
const registration instructions{[] { return make().instruction_family(); }};

} // namespace
} // namespace creel::bench
