// Asks the backends on behalf of everybody: a bounded queue of jobs, a fixed set of workers that
// take them, and a limit on how many of them are at one backend at a time.
//
// A job carries the deadline of the one who asked. So whoever holds it gives up by himself when the
// time has passed: the asker waiting for room in the queue, the job in the queue, the worker
// waiting for its turn at the backend, and the fetch itself. Nobody has to tell anybody.
#pragma once

#include "http_client.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/time.hpp>
#include <creel/io/endpoint.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/semaphore.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace demo {

enum class part_state { ok, late, failed };

struct part {
    part_state state = part_state::late;
    std::string text{}; // what the backend said, or why it could not be asked
};

class fetcher {
public:
    explicit fetcher(const std::vector<int>& backend_ports);

    // Starts the workers. They are shielded, so that the last requests still find them at work when
    // the server is told to stop; close() lets them go.
    void start(creel::nursery& n);
    void close() noexcept { jobs_.close(); }

    // The backend's part of a page; `late` when the deadline was first.
    // Parks: until then at most. Cancel: yes.
    part fetch(std::size_t backend, std::uint64_t id, creel::time_point deadline);

    [[nodiscard]] std::size_t queued() const noexcept { return jobs_.size(); }

private:
    struct job {
        std::size_t backend;
        std::uint64_t id;
        creel::time_point deadline;
        creel::sync::queue<part> answer{1};
    };

    struct backend_pool {
        explicit backend_pool(int port);
        creel::io::endpoint where;
        creel::sync::semaphore turns; // how many fetches at a time
        std::vector<std::unique_ptr<http_client>> idle{};
    };

    void work();
    part ask(backend_pool& who, std::uint64_t id);

    std::deque<backend_pool> backends_;
    creel::sync::queue<std::shared_ptr<job>> jobs_;
};

} // namespace demo
