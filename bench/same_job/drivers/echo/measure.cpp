// The measurement of the echo job. Its load is that of the family echo, which has a ring of its own
// and no fibers.

#include "../../../echo/load.hpp"
#include "../expect.hpp"
#include "../window.hpp"
#include "client.hpp"

namespace creel::bench::same_job::echo {

measurement measure(const std::string& path, const load& wanted) {
    measurement seen{};
    std::optional<program> server;
    std::optional<client> first; // pays for what the program makes once; it stays, does not count
    const auto port = io::run([&] {
        const auto it = within(patience, "its start", [&] {
            server.emplace(path, program::options{.count_allocations = wanted.count_allocations});
            return server->read_port();
        });
        seen.start_nanoseconds = in_nanoseconds(clock::now() - server->started());
        within(patience, "a first message", [&] { first.emplace(it, 0).exchange(64); });
        return it;
    });
    const auto idle_bytes = [&] {
        return io::run([&] {
            return within(patience, "the end of its work", [&] { return server->idle_bytes(); });
        });
    };
    const auto without_tasks = idle_bytes();
    const auto look = [&](bench::echo::moment now) {
        using enum bench::echo::moment;
        switch (now) {
        case connected:
            seen.idle_bytes = (idle_bytes() - without_tasks) / wanted.tasks;
            break;
        case begins:
            seen.allocations = -static_cast<double>(server->allocations());
            break;
        case ends:
            seen.allocations += static_cast<double>(server->allocations());
            break;
        case answered:
            seen.busy_bytes = (idle_bytes() - without_tasks) / wanted.tasks;
            break;
        }
    };
    const auto result = bench::echo::drive({wanted.tasks, 64, wanted.warm_up, wanted.window, look},
                                           port, server->pid());
    seen.operations = static_cast<double>(result.requests);
    seen.seconds = result.seconds;
    seen.cpu_seconds = result.server_cpu_seconds;
    seen.p50 = result.p50;
    seen.p99 = result.p99;
    seen.p999 = result.p999;
    return seen;
}

} // namespace creel::bench::same_job::echo
