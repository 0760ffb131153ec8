// The drivers of the producer_consumer job. They play the producers and the sink.

#include "job.hpp"
#include "program.hpp"

#include "../../statistics.hpp"
#include "../../system_call.hpp"
#include "../wire.hpp"

#include <creel/creel.hpp>

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace creel::bench::same_job {
namespace {

using namespace std::chrono_literals;
using ::same_job::longest_line;
using numbers = std::vector<std::uint64_t>;

constexpr auto patience = 20s;                       // for each part
constexpr auto at_once = patience / 2;               // what is not done at once is never done
constexpr std::size_t flood = std::size_t{64} << 20; // more than the kernel buffers
constexpr std::uint64_t most_growth = 16 << 20;      // of the program's memory, which is bounded

void require(bool is_so, const char* otherwise) {
    if (!is_so)
        throw std::runtime_error(otherwise);
}

// Runs a part of a driver. Its errors get its name.
void within(duration limit, const std::string& what, const std::function<void()>& part) {
    try {
        fail_after(limit, part);
    } catch (const timed_out&) {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit).count();
        throw std::runtime_error(what + ": not done after " + std::to_string(seconds) + " s");
    } catch (const std::exception& error) {
        throw std::runtime_error(what + ": " + error.what());
    }
}

// The decimal number at the beginning of the text, which it takes away; 0 if there is none. Faster
// than std::from_chars: the sink must not be slower than the program.
std::uint64_t take_number(std::string_view& text) {
    std::uint64_t value = 0;
    std::size_t digits = 0;
    for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits)
        value = value * 10 + static_cast<std::uint64_t>(text[digits] - '0');
    text.remove_prefix(digits);
    return value;
}

// The lines that the program sends to the sink.
class results {
public:
    explicit results(io::tcp_stream& sink) : sink_(sink), bytes_(std::size_t{64} << 10) {}

    // The number of the next item, after a check of its line; empty at the END line, which must
    // tell the right count and be the last.
    std::optional<std::uint64_t> next() {
        const auto line = next_line();
        require(line.has_value(), "the sink's connection ended without END");
        if (line->starts_with("END ")) {
            require(::same_job::number(line->substr(4)) == count_, "END has the wrong count");
            require(!next_line(), "the sink got more after END");
            return {};
        }
        std::string_view left = *line;
        const auto number = take_number(left);
        require(left.starts_with(' ') && left.size() < line->size(),
                "the sink got a line that does not begin with a number and a space");
        left.remove_prefix(1);
        require(take_number(left) == ::same_job::mixed(number), "the sink got a wrong mixed value");
        require(left.empty(), "the sink got a line with more than two numbers");
        ++count_;
        return number;
    }

    [[nodiscard]] std::uint64_t count() const { return count_; }
    [[nodiscard]] std::uint64_t received_at() const { return received_at_; }

private:
    // Valid until the next call. Empty at the end of the stream.
    std::optional<std::string_view> next_line() {
        for (;;) {
            const char* const from = bytes_.data() + begin_;
            if (const auto* newline =
                    static_cast<const char*>(std::memchr(from, '\n', end_ - begin_))) {
                const auto size = static_cast<std::size_t>(newline - from);
                begin_ += size + 1;
                return std::string_view{from, size};
            }
            std::memmove(bytes_.data(), from, end_ - begin_);
            end_ -= std::exchange(begin_, 0);
            require(end_ <= longest_line, "the sink got a line that is too long");
            const auto got = sink_.recv(std::as_writable_bytes(std::span{bytes_}.subspan(end_)));
            received_at_ = nanoseconds(CLOCK_MONOTONIC);
            if (got == 0) {
                require(end_ == 0, "the sink got a line without its end");
                return {};
            }
            end_ += got;
        }
    }

    io::tcp_stream& sink_;
    std::vector<char> bytes_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::uint64_t count_ = 0;
    std::uint64_t received_at_ = 0;
};

io::tcp_stream connect(std::uint16_t port, const io::stream_options& options = {}) {
    return io::tcp_stream::connect(io::endpoint{"127.0.0.1", port}, options);
}

void send(io::tcp_stream& peer, std::string_view text) {
    peer.send_all(std::as_bytes(std::span{text}));
}

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

// A producer's numbers; its place and the place of the number in its sequence.
constexpr unsigned sequence_bits = 32;
constexpr std::uint64_t number_of(std::size_t producer, std::uint64_t sequence) {
    return (std::uint64_t{producer + 1} << sequence_bits) | sequence;
}
struct origin {
    std::size_t producer;
    std::uint64_t sequence;
};
origin origin_of(std::uint64_t number, std::size_t producers) {
    const auto producer = (number >> sequence_bits) - 1;
    require(producer < producers, "a number came that was never sent");
    return {static_cast<std::size_t>(producer), number & ((std::uint64_t{1} << sequence_bits) - 1)};
}

// A block of lines that are sent at once.
class block {
public:
    static constexpr std::uint64_t items = 256;

    // From the sequence number on. Valid until the next call.
    std::span<const std::byte> fill(std::size_t producer, std::uint64_t sequence) {
        char* to = text_.data();
        for (std::uint64_t i = 0; i < items; ++i) {
            to = std::to_chars(to, text_.data() + text_.size(), number_of(producer, sequence + i))
                     .ptr;
            *to++ = '\n';
        }
        return std::as_bytes(std::span{text_}.first(static_cast<std::size_t>(to - text_.data())));
    }

private:
    std::array<char, items * 21> text_; // a number has at most 20 digits
};

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

// A producer of the measurement. At most `most_ahead` of its numbers have not come to the sink,
// which is more than the queues of the program hold. So the program always has work, and the
// latency is that of full queues; but the buffers of the kernel, which grow to megabytes, do not
// decide it.
class measured_producer {
public:
    measured_producer(std::size_t index, io::tcp_stream peer)
        : index_(index), peer_(std::move(peer)) {}

    void run(const bool& stop) {
        block some;
        for (;;) {
            while (!stop && sent_ + block::items > answered_ + most_ahead)
                may_send_.wait();
            if (stop)
                break;
            const auto text = some.fill(index_, sent_);
            sent_at_[sent_ / block::items % sent_at_.size()] = nanoseconds(CLOCK_MONOTONIC);
            sent_ += block::items;
            peer_.send_all(text);
        }
        peer_.shutdown_send();
    }

    void wake() { may_send_.set(); }

    // A number has come to the sink. Returns when its block was sent.
    std::uint64_t answered(std::uint64_t sequence) {
        require(sequence < sent_, "a number came that was never sent");
        // A place in `came_` belongs to the numbers with the same remainder, one after the other.
        auto place = came_[sequence % most_ahead];
        require(place == (sequence / most_ahead % 2 == 1), "a number came twice, or was lost");
        place.flip();
        if (++answered_ + most_ahead == sent_ + block::items)
            may_send_.set();
        return sent_at_[sequence / block::items % sent_at_.size()];
    }

    [[nodiscard]] std::uint64_t sent() const { return sent_; }

private:
    static constexpr std::size_t most_ahead = 1024;

    std::size_t index_;
    io::tcp_stream peer_;
    std::uint64_t sent_ = 0;
    std::uint64_t answered_ = 0;
    std::array<std::uint64_t, 2 * most_ahead / block::items> sent_at_{}; // of the last blocks
    std::bitset<most_ahead> came_{};
    sync::event may_send_{sync::event::automatic};
};

class measuring {
public:
    measuring(const std::string& path, const load& wanted)
        : wanted_(wanted),
          running_(path, {.arguments = {std::to_string(wanted.tasks + 1)},
                          .count_allocations = wanted.count_allocations}) {}

    measurement run() {
        const auto port = running_.read_port();
        const std::chrono::duration<double, std::nano> start = clock::now() - running_.started();
        seen_.start_nanoseconds = start.count();
        auto sink = connect(port);
        results all{sink};
        // What the program allocates for its first producer alone is no cost of each producer. So
        // one more is there before, and stays.
        auto warm = connect(port);
        send(warm, "0\n");
        require(all.next() == 0, "the sink did not get the first number");
        const auto without_tasks = idle_memory();
        for (std::size_t i = 0; i < wanted_.tasks; ++i)
            producers_.push_back(std::make_unique<measured_producer>(i, connect(port)));
        seen_.idle_bytes = (idle_memory() - without_tasks) / wanted_.tasks;
        with_nursery([&](nursery& n) {
            n.spawn([&] { read(all); });
            for (const auto& one : producers_)
                n.spawn([&] { one->run(stop_); });
            measure_window();
            seen_.busy_bytes = (memory() - without_tasks) / wanted_.tasks;
            stop_ = true;
            warm.shutdown_send();
            for (const auto& one : producers_)
                one->wake();
        });
        require(running_.wait() == 0, "its exit status is not 0");
        return seen_;
    }

private:
    void measure_window() {
        this_fiber::sleep_for(wanted_.warm_up);
        latencies_.clear();
        const auto count = count_;
        const auto allocations = running_.allocations();
        const auto cpu = running_.cpu_time();
        const auto begin = clock::now();
        this_fiber::sleep_for(wanted_.window);
        seen_.operations = static_cast<double>(count_ - count);
        seen_.seconds = std::chrono::duration<double>(clock::now() - begin).count();
        seen_.cpu_seconds = std::chrono::duration<double>(running_.cpu_time() - cpu).count();
        seen_.allocations = static_cast<double>(running_.allocations() - allocations);
        seen_.p50 = latencies_.percentile(0.5);
        seen_.p99 = latencies_.percentile(0.99);
        seen_.p999 = latencies_.percentile(0.999);
        require(seen_.operations > 0, "no item came in the measured window");
    }

    // The latency is that of every 16th number.
    void read(results& all) {
        const auto before = all.count();
        while (const auto number = all.next()) {
            const auto [producer, sequence] = origin_of(*number, producers_.size());
            const auto sent_at = producers_[producer]->answered(sequence);
            if (sequence % 16 == 0)
                latencies_.record(all.received_at() - sent_at);
            count_ = all.count();
        }
        std::uint64_t sent = 0;
        for (const auto& one : producers_)
            sent += one->sent();
        require(stop_, "END came before the producers had ended");
        require(before + sent == all.count(), "a number was lost");
    }

    [[nodiscard]] double memory() const { return static_cast<double>(running_.resident_bytes()); }

    // Waits until the program has done what it was given: for 40 ms it uses no CPU time.
    [[nodiscard]] double idle_memory() const {
        for (auto before = -1ns; before != running_.cpu_time();) {
            before = running_.cpu_time();
            this_fiber::sleep_for(40ms);
        }
        return memory();
    }

    load wanted_;
    program running_;
    std::vector<std::unique_ptr<measured_producer>> producers_{};
    latency_histogram latencies_{};
    std::uint64_t count_ = 0;
    bool stop_ = false;
    measurement seen_{};
};

measurement measure(const std::string& path, const load& wanted) {
    measurement seen{};
    io::run([&] {
        within(wanted.warm_up + wanted.window + patience, "the measurement",
               [&] { seen = std::make_unique<measuring>(path, wanted)->run(); });
    });
    return seen;
}

} // namespace

const job producer_consumer{"producer_consumer", check, measure};

} // namespace creel::bench::same_job
