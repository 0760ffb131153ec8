#include "parking.hpp"

#include <vector>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>

namespace creel::bench {
namespace {

// A mutex that is locked while the fibers come.
class gate : public parking_counts {
public:
    gate() { mutex_.lock(); }
    void pass() {
        ++parked;
        mutex_.lock();
        ++woken;
        mutex_.unlock();
    }
    void open() { mutex_.unlock(); }

private:
    boost::fibers::mutex mutex_{};
};

[[gnu::noinline]] void pass_inside(gate& g, unsigned calls) {
    const call_data data{calls};
    if (calls > 1)
        pass_inside(g, calls - 1);
    else
        g.pass();
    g.intact_calls += data.intact(calls);
}

// Boost's default stacks, 128 KiB without a guard. Visit is the type of a lambda.
template <class Visit>
values measure(parking& run, unsigned calls, Visit) {
    std::vector<boost::fibers::fiber> fibers(run.fibers());
    gate g;
    run.begin();
    for (auto& fiber : fibers)
        fiber = boost::fibers::fiber{[&g] { Visit{}(g); }};
    while (g.parked < run.fibers())
        boost::this_fiber::yield();
    run.end(g);
    g.open();
    for (auto& fiber : fibers)
        fiber.join();
    return run.result(g, calls);
}

} // namespace

values park_boost_fiber(parking& run) {
    return measure(run, 0, [](gate& g) { g.pass(); });
}

values park_boost_fiber_nested(parking& run) {
    return measure(run, nested_calls, [](gate& g) { pass_inside(g, nested_calls); });
}

} // namespace creel::bench
