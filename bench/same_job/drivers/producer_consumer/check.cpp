// The check of the producer_consumer job. It plays the producers and the sink.

#include "../job.hpp"
#include "../program.hpp"
#include "lines.hpp"

#include <creel/creel.hpp>

#include <algorithm>
#include <csignal>
#include <functional>
#include <iterator>
#include <limits>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

namespace creel::bench::same_job::producer_consumer {
namespace {

using numbers = std::vector<std::uint64_t>;

// A program with all its connections.
struct factory {
    factory(const std::string& path, std::size_t count, const io::stream_options& of_sink = {},
            const io::stream_options& of_producers = {})
        : running(path, {.arguments = {std::to_string(count)}}),
          port(running.read_port()),
          sink(connect(port, of_sink)) {
        for (std::size_t i = 0; i < count; ++i)
            producers.push_back(connect(port, of_producers));
    }

    [[nodiscard]] numbers read_to_end() {
        results all{sink};
        numbers read;
        while (const auto number = all.next())
            read.push_back(*number);
        return read;
    }

    void require_end() {
        within(at_once, "its end",
               [&] { require(running.wait() == 0, "its exit status is not 0"); });
    }

    program running;
    std::uint16_t port;
    io::tcp_stream sink;
    std::vector<io::tcp_stream> producers{};
};

std::string as_lines(const numbers& all) {
    std::string text;
    for (const auto number : all)
        text += std::to_string(number) + '\n';
    return text;
}

// Of all lengths; no two are the same.
numbers make_numbers(std::size_t count, std::mt19937_64& random) {
    numbers all{0, std::numeric_limits<std::uint64_t>::max()};
    while (all.size() < count)
        all.push_back(random() >> (all.size() % 40));
    return all;
}

// `certain` must all have come, once each. Of `possible`, each may have come once.
void require_same(numbers read, numbers certain, numbers possible = {}) {
    for (auto* some : {&read, &certain, &possible})
        std::sort(some->begin(), some->end());
    numbers more;
    require(std::includes(read.begin(), read.end(), certain.begin(), certain.end()),
            "a number was lost");
    std::set_difference(read.begin(), read.end(), certain.begin(), certain.end(),
                        std::back_inserter(more));
    require(std::includes(possible.begin(), possible.end(), more.begin(), more.end()),
            "a number came twice, or was never sent");
}

// The first 1,000 bytes go in segments of 1 to 7 bytes, the rest in long ones.
void send_in_pieces(io::tcp_stream& peer, std::string_view text, std::mt19937_64& random) {
    for (std::size_t sent = 0; sent < text.size();) {
        const auto part = text.substr(sent, random() % (sent < 1000 ? 7 : 9000) + 1);
        send(peer, part);
        sent += part.size();
    }
}

// The producers begin and end at different times, the second one without a number. A connection
// after the last producer's is not accepted: its number does not come.
void answer_all(const std::string& path, std::size_t count) {
    factory one{path, count};
    std::mt19937_64 random{count};
    numbers sent;
    with_nursery([&](nursery& n) {
        n.spawn([&] {
            try {
                auto superfluous = connect(one.port);
                send(superfluous, "12345\n");
            } catch (const std::system_error&) { // refused or reset
            }
        });
        for (std::size_t i = 0; i < count; ++i) {
            const auto part = i == 1 ? numbers{} : make_numbers(300 * (i + 1), random);
            sent.insert(sent.end(), part.begin(), part.end());
            n.spawn([&, i, text = as_lines(part)] {
                send_in_pieces(one.producers[i], text, random);
                one.producers[i].shutdown_send();
            });
        }
        require_same(one.read_to_end(), sent);
    });
    one.require_end();
}

void answer_none(const std::string& path) {
    factory one{path, 1};
    one.producers[0].close();
    require(one.read_to_end().empty(), "a number came, and none was sent");
    one.require_end();
}

// The program must end the connection by itself.
void require_closed(io::tcp_stream& peer) {
    try {
        std::array<std::byte, 1> none{};
        require(peer.recv(none) == 0, "the program sent something to a producer");
    } catch (const std::system_error&) { // it was reset, because the program had not read all
    }
}

// What a producer may not send. Only that producer's connection ends, and what it had sent before
// comes. Another producer breaks in the middle of a number.
void survive_producers(const std::string& path) {
    std::vector<std::string> malformed{
        "12x4\n", "\n", "-1\n", " 1\n", "1 \n", "0x10\n", "18446744073709551616\n"};
    malformed.emplace_back(longest_line, '0'); // without an end
    malformed.push_back(malformed.back() + '\n');
    factory one{path, malformed.size() + 2};
    auto& steady = one.producers[malformed.size()];
    auto& broken = one.producers[malformed.size() + 1];
    numbers certain;
    numbers possible;
    with_nursery([&](nursery& n) {
        auto read = n.async([&] { return one.read_to_end(); });
        send(steady, "5\n");
        certain.push_back(5);
        for (std::size_t i = 0; i < malformed.size(); ++i) {
            numbers before;
            for (std::uint64_t k = 0; k < 100; ++k)
                before.push_back(1000 * (i + 1) + k);
            certain.insert(certain.end(), before.begin(), before.end());
            send(one.producers[i], as_lines(before) + malformed[i]);
        }
        for (std::uint64_t k = 0; k < 3000; ++k)
            possible.push_back(1'000'000 + k);
        send(broken, as_lines(possible) + "20000");
        broken.set_linger(0s);
        broken.close();
        for (std::size_t i = 0; i < malformed.size(); ++i)
            within(at_once, "a producer that sent line " + std::to_string(i) + " of the bad ones",
                   [&] { require_closed(one.producers[i]); });
        std::string longest(longest_line, '0'); // that is allowed
        longest.replace(longest_line - 2, 2, "6\n");
        send(steady, longest);
        certain.push_back(6);
        steady.shutdown_send();
        require_same(read.get(), certain, possible);
    });
    one.require_end();
}

// While the sink does not read, the program takes no more than its queues and the kernel hold, and
// then goes on.
void wait_for_sink(const std::string& path) {
    constexpr std::size_t count = 2;
    factory one{path, count, {.receive_buffer_bytes = 4096}, {.send_buffer_bytes = 16384}};
    const auto before = one.running.resident_bytes();
    std::array<std::uint64_t, count> sent{};
    std::size_t bytes = 0;
    bool stop = false;
    numbers read;
    with_nursery([&](nursery& n) {
        for (std::size_t i = 0; i < count; ++i)
            n.spawn([&, i] {
                block some;
                while (!stop) {
                    for (auto part = some.fill(i, sent[i]); !part.empty();) {
                        const std::size_t taken = one.producers[i].send(part);
                        bytes += taken;
                        part = part.subspan(taken);
                    }
                    sent[i] += block::items;
                }
                one.producers[i].shutdown_send();
            });
        for (std::size_t last = 1; last != bytes;) {
            last = bytes;
            this_fiber::sleep_for(200ms);
            require(bytes < flood, "the program read 64 MiB, but the sink read nothing");
            require(one.running.resident_bytes() < before + most_growth,
                    "the program's memory grows while the sink reads nothing");
        }
        stop = true;
        read = one.read_to_end();
    });
    numbers all;
    for (std::size_t i = 0; i < count; ++i)
        for (std::uint64_t k = 0; k < sent[i]; ++k)
            all.push_back(number_of(i, k));
    require_same(std::move(read), std::move(all));
    one.require_end();
}

// Two producers send until their connections break. `end` makes that happen. Returns the exit
// status of the program.
int end_in_the_middle(const std::string& path, const std::function<void(factory&)>& end) {
    factory one{path, 2};
    int status = -1;
    with_nursery([&](nursery& n) {
        for (std::size_t i = 0; i < 2; ++i)
            n.spawn([&, i] {
                try {
                    block some;
                    for (std::uint64_t sent = 0;; sent += block::items)
                        one.producers[i].send_all(some.fill(i, sent));
                } catch (const std::system_error&) {
                }
            });
        results all{one.sink};
        while (all.count() < 10'000)
            require(all.next().has_value(), "END came before the producers had ended");
        end(one);
        within(at_once, "its end", [&] { status = one.running.wait(); });
    });
    return status;
}

} // namespace

void check(const std::string& path) {
    io::run([&] {
        for (const std::size_t count : {1UL, 3UL, 16UL})
            within(patience, std::to_string(count) + " producers",
                   [&] { answer_all(path, count); });
        within(patience, "a producer without a number", [&] { answer_none(path); });
        within(patience, "producers that break the rules", [&] { survive_producers(path); });
        within(patience, "a sink that does not read", [&] { wait_for_sink(path); });
        within(patience, "a sink that breaks", [&] {
            const int status = end_in_the_middle(path, [](factory& one) {
                one.sink.set_linger(0s);
                one.sink.close();
            });
            require(status == 1, "the exit status is not 1");
        });
        within(patience, "SIGTERM", [&] {
            const int status =
                end_in_the_middle(path, [](factory& one) { one.running.terminate(); });
            require(status == 256 + SIGTERM, "SIGTERM did not end it");
        });
    });
}

} // namespace creel::bench::same_job::producer_consumer
