// Asks the backends for all pages: a bounded queue of jobs, a fixed set of workers that take them,
// and a limit on the workers that are at one backend at a time.
//
// A job has the deadline of its page. So each step gives up by itself when the time has passed: the
// page's fiber that waits for room in the queue, the job in the queue, the worker that waits for
// its turn at the backend, and the fetch. No step has to notify another.
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
    std::string text{}; // the backend's answer, or the error if there is none
};

class fetcher {
public:
    explicit fetcher(const std::vector<int>& backend_ports);

    // Starts the workers. They are shielded, so that they still serve the last requests when the
    // server drains. close() ends them.
    void start(creel::nursery& n);
    void close() noexcept { jobs_.close(); }

    // Returns the backend's part of a page, or `late` when the deadline came first.
    // Parks: until the deadline at most. Cancel: yes.
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
        creel::sync::semaphore turns; // bounds the fetches at a time
        std::vector<std::unique_ptr<http_client>> idle{};
    };

    void work();
    part ask(backend_pool& who, std::uint64_t id);

    std::deque<backend_pool> backends_;
    creel::sync::queue<std::shared_ptr<job>> jobs_;
};

} // namespace demo
