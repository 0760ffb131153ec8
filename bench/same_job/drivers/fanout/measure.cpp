// The measurement of the fanout job. It plays the clients and the three backends.

#include "../window.hpp"
#include "backend.hpp"
#include "client.hpp"

#include <algorithm>
#include <deque>

namespace creel::bench::same_job::fanout {
namespace {

constexpr auto longest_reply_time = 1s;    // most replies are far quicker
constexpr std::size_t most_in_flight = 64; // requests

// Up to 64 requests are in flight. More clients than that take turns: if all of them asked at once,
// the deadline would pass while the requests wait for the program's core.
//
// In one of a hundred requests one backend is silent, so the reply comes at the deadline, without
// its value. Such a reply counts as an operation, but its time would say nothing: the percentiles
// are those of the other requests. They include a reply that came at the deadline because the
// program, or this driver, was too slow. More than a tenth of such replies is an error.
class load_of_clients {
public:
    load_of_clients(std::uint16_t port, unsigned count) {
        for (unsigned i = 0; i < count; ++i)
            idle_.push_back(&clients_.emplace_back(port));
    }

    // Spawns fibers that ask, until stop() and the replies to the last requests.
    void start(nursery& n) {
        for (std::size_t i = 0; i < std::min(most_in_flight, clients_.size()); ++i)
            n.spawn([this] {
                while (!stopped_) {
                    client* const one = idle_.front();
                    idle_.pop_front();
                    ask(*one);
                    idle_.push_back(one);
                }
            });
    }
    void stop() {
        stopped_ = true;
        if (late_ * 10 > made_.operations)
            throw std::runtime_error(std::to_string(late_) + " of " +
                                     std::to_string(made_.operations) +
                                     " replies lacked a value of a backend that had answered");
    }

    [[nodiscard]] progress& made() { return made_; } // its operations are replies

private:
    void ask(client& one) {
        const std::uint64_t serial = ++serial_;
        const std::uint64_t random = mixed(serial);
        const bool silent = random % 100 == 0;
        actions each = all_answer;
        if (silent)
            each[random / 100 % backends] = action::silent;
        const auto came = one.ask(make_id(serial, each));
        if (came.took > longest_reply_time)
            throw std::runtime_error("a reply came after " + milliseconds(came.took));
        ++made_.operations;
        late_ += came.whole ? 0 : 1;
        if (!silent)
            made_.latencies.record(static_cast<std::uint64_t>(came.took.count()));
    }

    std::deque<client> clients_{};
    std::deque<client*> idle_{};
    std::uint64_t serial_ = 0;
    std::uint64_t late_ = 0;
    bool stopped_ = false;
    progress made_{};
};

measurement measure_clients(const program& server, std::uint16_t port, const load& wanted) {
    measurement seen{};
    client first{port}; // pays for what the program makes once; it stays, and does not count
    first.ask(make_id(0, all_answer));
    const auto without_tasks = server.idle_bytes();
    load_of_clients clients{port, wanted.tasks};
    // The clients have not asked yet.
    seen.idle_bytes = (server.idle_bytes() - without_tasks) / wanted.tasks;
    with_nursery([&](nursery& n) {
        clients.start(n);
        measure_window(server, wanted, clients.made(), seen);
        clients.stop();
    });
    // The clients have their replies.
    seen.busy_bytes = (server.idle_bytes() - without_tasks) / wanted.tasks;
    return seen;
}

} // namespace

measurement measure(const std::string& path, const load& wanted) {
    return io::run([&] {
        auto all = listening_backends();
        program server{path,
                       {.arguments = ports_of(all), .count_allocations = wanted.count_allocations}};
        const auto port = within(patience, "its start", [&] { return server.read_port(); });
        const auto start = clock::now() - server.started();
        measurement seen{};
        with_nursery([&](nursery& connections) {
            for (auto& one : all)
                one.accept_into(connections);
            seen =
                within_measurement(wanted, [&] { return measure_clients(server, port, wanted); });
            connections.cancel();
        });
        seen.start_nanoseconds = in_nanoseconds(start);
        return seen;
    });
}

} // namespace creel::bench::same_job::fanout
