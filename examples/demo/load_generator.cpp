// The load generator: clients, each with a connection of its own, ask for one page after the other
// and check each reply. Then it prints a report.
#include "commands.hpp"
#include "histogram.hpp"
#include "http_client.hpp"
#include "page.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <array>
#include <charconv>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

namespace io = creel::io;

namespace demo {

namespace {

constexpr auto reply_limit = 10s; // a reply that takes longer is lost

// Counts the parts that one backend owed in time: it had to think for less than the deadline.
struct punctuality {
    std::uint64_t owed = 0;
    std::uint64_t late = 0;
};

struct results {
    std::uint64_t replies = 0;
    std::uint64_t late_parts = 0;
    std::array<punctuality, backends.size()> of_backend{};
    std::uint64_t wrong = 0;
    std::uint64_t lost = 0;
    std::string first_complaint{};
    histogram latencies{};
    std::chrono::nanoseconds elapsed{0};

    void complain(std::uint64_t& counter, std::string what) {
        if (counter++ == 0 && first_complaint.empty())
            first_complaint = std::move(what);
    }
};

// Removes the first line from the text. Returns false if it is not the expected one.
bool take(std::string_view& text, std::string_view line) {
    if (!text.starts_with(line))
        return false;
    text.remove_prefix(line.size());
    return true;
}

// Returns which parts were late, or nothing if the page is wrong.
std::optional<std::array<bool, backends.size()>> check_page(std::uint64_t id,
                                                            std::string_view text) {
    std::array<bool, backends.size()> late{};
    if (!take(text, "page " + std::to_string(id) + "\n"))
        return {};
    for (std::size_t i = 0; i < backends.size(); ++i) {
        std::string name{backends[i].name};
        late[i] = take(text, name + ": timeout\n");
        if (!late[i] && !take(text, name + ": " + part_text(i, id) + "\n"))
            return {};
    }
    return text.empty() ? std::optional{late} : std::nullopt;
}

void count_late(std::uint64_t id, const std::array<bool, backends.size()>& late,
                std::chrono::milliseconds deadline, results& to) {
    for (std::size_t i = 0; i < backends.size(); ++i) {
        bool owed = thinking_time(i, id) < deadline;
        to.late_parts += late[i] ? 1 : 0;
        to.of_backend[i].owed += owed ? 1 : 0;
        to.of_backend[i].late += owed && late[i] ? 1 : 0;
    }
}

class load {
public:
    explicit load(const load_options& options)
        : options_(options), server_(io::endpoint::loopback_v4(options.port)) {}

    // Parks: until every client has its last reply.
    void run(results& to) {
        auto begin = creel::now();
        auto end = begin + std::chrono::seconds{options_.seconds};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "progress"}, [&] { show_progress(to, begin, end); });
            creel::with_nursery([&](creel::nursery& clients) {
                for (unsigned i = 0; i < options_.connections; ++i)
                    clients.spawn({.name = "client"}, [&] { ask_until(end, to); });
            });
            to.elapsed = creel::now() - begin;
            n.cancel(); // when all clients have lost the server there is no more progress
        });
    }

private:
    void ask_until(creel::time_point end, results& to) {
        try {
            std::optional<http_client> client;
            creel::fail_after(reply_limit, [&] { client.emplace(server_); });
            do {
                std::uint64_t id = ++last_id_;
                auto asked = creel::now();
                http_response response = creel::fail_after(
                    reply_limit, [&] { return client->get("/page?id=" + std::to_string(id)); });
                to.latencies.add(creel::now() - asked);
                ++to.replies;
                auto late = check_page(id, response.body);
                if (response.status == 200 && late)
                    count_late(id, *late, options_.deadline, to);
                else
                    to.complain(to.wrong, "page " + std::to_string(id) + " came with status " +
                                              std::to_string(response.status) + " as:\n" +
                                              response.body);
            } while (creel::now() < end);
        } catch (const std::exception& error) {
            to.complain(to.lost, error.what());
        }
    }

    static void show_progress(const results& of, creel::time_point begin, creel::time_point end) {
        for (auto next = begin + 1s; next <= end; next += 1s) {
            std::uint64_t before = of.replies;
            creel::this_fiber::sleep_until(next);
            std::cout << "  " << std::chrono::round<std::chrono::seconds>(next - begin).count()
                      << " s   " << with_commas(of.replies - before) << " replies   "
                      << with_commas(of.late_parts) << " timeouts so far" << std::endl;
        }
    }

    load_options options_;
    io::endpoint server_;
    std::uint64_t last_id_ = 0;
};

// Returns the number behind "name": in the flat JSON of /stats.
std::uint64_t number_in(std::string_view json, std::string_view name) {
    std::string key = "\"" + std::string{name} + "\": ";
    std::size_t at = json.find(key);
    std::uint64_t value = 0;
    if (at != std::string_view::npos)
        std::from_chars(json.data() + at + key.size(), json.data() + json.size(), value);
    return value;
}

void print_report(const load_options& options, const results& of, std::string_view stats) {
    auto seconds = std::chrono::duration<double>(of.elapsed).count();
    auto rate = static_cast<std::uint64_t>(static_cast<double>(of.replies) / seconds);
    std::uint64_t parts = of.replies * backends.size();
    std::uint64_t lived = number_in(stats, "fibers_lived");
    std::array<char, 16> share;
    std::snprintf(share.data(), share.size(), "%.2f%%",
                  parts ? 100.0 * static_cast<double>(of.late_parts) / static_cast<double>(parts)
                        : 0.0);
    std::cout << "\n"
              << "  requests per second  " << with_commas(rate) << "\n"
              << "  replies              " << with_commas(of.replies) << " over "
              << options.connections << " connections, each one checked: " << of.wrong << " wrong, "
              << of.lost << " lost\n"
              << "  latency              p50 " << to_text(of.latencies.percentile(0.5)) << "   p90 "
              << to_text(of.latencies.percentile(0.9)) << "   p99 "
              << to_text(of.latencies.percentile(0.99)) << "   p99.9 "
              << to_text(of.latencies.percentile(0.999)) << "   max " << to_text(of.latencies.max())
              << "\n"
              << "  timeouts             " << with_commas(of.late_parts) << " of "
              << with_commas(parts) << " parts came later than " << to_text(options.deadline)
              << " (" << share.data() << ") and were left out\n"
              << "  fibers               " << with_commas(lived) << " lived in the server, "
              << with_commas(number_in(stats, "fibers_peak")) << " at most at a time, on "
              << with_commas(number_in(stats, "stacks")) << " stacks\n"
              << std::endl;
}

// Returns why the load failed; empty if it did not. A timeout may hide a reply that a backend lost.
// But on a busy machine some replies are late as well, and at times many. So a backend fails only
// if it misses more than half of the pages that it owed: a stuck backend misses all of them, a
// healthy one about 1 in 1,000.
std::string verdict(const load_options& options, const results& of) {
    // Each client asks at least once, however slow the server and the clients are.
    if (of.replies < options.connections)
        return "idle: only " + std::to_string(of.replies) + " replies for " +
               std::to_string(options.connections) + " connections" +
               (of.first_complaint.empty() ? "" : ": " + of.first_complaint);
    if (of.lost > 0)
        return std::to_string(of.lost) + " replies were lost: " + of.first_complaint;
    if (of.wrong > 0)
        return std::to_string(of.wrong) + " replies were wrong: " + of.first_complaint;
    if (of.late_parts == of.replies * backends.size())
        return "no backend's reply reached a page";
    for (std::size_t i = 0; i < backends.size(); ++i)
        if (auto [owed, late] = of.of_backend[i]; late * 2 > owed)
            return "backend " + std::string{backends[i].name} + " owed " + std::to_string(owed) +
                   " replies in time, and " + std::to_string(late) + " did not reach their page";
    return {};
}

} // namespace

int run_load(const load_options& options) {
    results counted;
    std::string stats;
    io::run([&] {
        load{options}.run(counted);
        if (counted.lost == 0)
            stats = creel::fail_after(reply_limit, [&] {
                return http_client{io::endpoint::loopback_v4(options.port)}.get("/stats").body;
            });
    });
    print_report(options, counted, stats);
    std::string failure = verdict(options, counted);
    if (!failure.empty())
        std::cerr << "demo: " << failure << '\n';
    return failure.empty() ? 0 : 1;
}

} // namespace demo
