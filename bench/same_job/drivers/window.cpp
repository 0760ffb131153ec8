#include "window.hpp"

#include <creel/fibers/this_fiber.hpp>

namespace creel::bench::same_job {

void measure_window(const program& running, const load& wanted, progress& all, measurement& seen) {
    this_fiber::sleep_for(wanted.warm_up);
    all.latencies.clear();
    const auto operations = all.operations;
    const auto allocations = running.allocations();
    const auto cpu = running.cpu_time();
    const auto begin = clock::now();
    this_fiber::sleep_for(wanted.window);
    seen.operations = static_cast<double>(all.operations - operations);
    seen.seconds = std::chrono::duration<double>(clock::now() - begin).count();
    seen.cpu_seconds = std::chrono::duration<double>(running.cpu_time() - cpu).count();
    seen.allocations = static_cast<double>(running.allocations() - allocations);
    seen.p50 = all.latencies.percentile(0.5);
    seen.p99 = all.latencies.percentile(0.99);
    seen.p999 = all.latencies.percentile(0.999);
    require(seen.operations > 0, "nothing happened in the measured window");
}

} // namespace creel::bench::same_job
