#include "fetcher.hpp"

#include <creel/fibers/cancel_scope.hpp>

#include <cstddef>
#include <exception>
#include <utility>

namespace demo {

namespace {

constexpr std::size_t workers = 128;
constexpr std::ptrdiff_t turns_per_backend = 64;
constexpr std::size_t queue_capacity = 256;

} // namespace

fetcher::backend_pool::backend_pool(int port)
    : where(creel::io::endpoint::loopback_v4(port)), turns(turns_per_backend) {}

fetcher::fetcher(const std::vector<int>& backend_ports) : jobs_(queue_capacity) {
    for (int port : backend_ports)
        backends_.emplace_back(port);
}

void fetcher::start(creel::nursery& n) {
    for (std::size_t i = 0; i < workers; ++i)
        n.spawn({.name = "worker"}, [this] { creel::shield([this] { work(); }); });
}

part fetcher::fetch(std::size_t backend, std::uint64_t id, creel::time_point deadline) {
    // Shared, because a worker may still use it when the caller has given up.
    auto wanted = std::make_shared<job>(backend, id, deadline);
    auto answer = creel::move_on_at(deadline, [&] {
        if (!jobs_.push(wanted))
            return part{.state = part_state::failed, .text = "shutting down"};
        return wanted->answer.pop().value();
    });
    return std::move(answer).value_or(part{});
}

void fetcher::work() {
    while (auto next = jobs_.pop()) {
        job& j = **next;
        backend_pool& pool = backends_[j.backend];
        auto answer = creel::move_on_at(j.deadline, [&] {
            auto turn = pool.turns.hold(); // throws at once if the job is already too late
            return ask(pool, j.id);
        });
        if (answer)
            static_cast<void>(
                j.answer.push(std::move(*answer))); // never waits: it has room for one
    }
}

// Makes one request, over a kept connection if there is one. A client that is in the middle of a
// reply at the deadline is destroyed with its connection: otherwise its next request would get the
// rest of that reply.
part fetcher::ask(backend_pool& pool, std::uint64_t id) {
    std::string target = "/part?id=" + std::to_string(id);
    for (;;) {
        std::unique_ptr<http_client> client;
        bool kept = !pool.idle.empty();
        try {
            if (kept) {
                client = std::move(pool.idle.back());
                pool.idle.pop_back();
            } else {
                client = std::make_unique<http_client>(pool.where);
            }
            http_response response = client->get(target);
            if (client->keeps_alive())
                pool.idle.push_back(std::move(client));
            if (response.status != 200)
                return {.state = part_state::failed,
                        .text = "status " + std::to_string(response.status)};
            return {.state = part_state::ok, .text = std::move(response.body)};
        } catch (const std::exception& error) {
            // The other side may have closed a kept connection. The next one may work, and the last
            // attempt uses a new connection.
            if (!kept)
                return {.state = part_state::failed, .text = error.what()};
        }
    }
}

} // namespace demo
