// The drivers of the echo job.

#include "job.hpp"
#include "program.hpp"

#include "../../echo/load.hpp"

#include <creel/creel.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace creel::bench::same_job {
namespace {

using namespace std::chrono_literals;

constexpr auto patience = 20s;                       // for each part of the check
constexpr std::size_t period = 65521;                // of the pattern
constexpr std::size_t piece = 16384;                 // of the pattern, at most, in one call
constexpr std::size_t flood = std::size_t{64} << 20; // more than the kernel buffers

// What all connections send. The period is a prime number, so that bytes which are lost, repeated
// or out of place do not match. Each connection begins at another place.
class pattern {
public:
    pattern() : bytes_(period + piece) {
        std::minstd_rand random{1};
        for (std::size_t i = 0; i < bytes_.size(); ++i)
            bytes_[i] = i < period ? static_cast<std::byte>(random() >> 8) : bytes_[i - period];
    }

    [[nodiscard]] std::span<const std::byte> at(std::size_t place, std::size_t count) const {
        return std::span{bytes_}.subspan(place % period, std::min(count, piece));
    }

private:
    std::vector<std::byte> bytes_;
};

const pattern& text() {
    static const pattern all;
    return all;
}

// A client's connection. One fiber may send while another one receives.
class client {
public:
    client(std::uint16_t port, std::size_t number)
        : begin_(number * 1009), peer_(io::tcp_stream::connect(io::endpoint{"127.0.0.1", port})) {}

    void send(std::size_t count) {
        for (const std::size_t end = sent_ + count; sent_ < end;) {
            const auto part = text().at(begin_ + sent_, end - sent_);
            sent_ += peer_.send(part);
        }
    }

    void receive(std::size_t count) {
        std::array<std::byte, piece> buffer;
        for (const std::size_t end = received_ + count; received_ < end;) {
            const std::size_t wanted = std::min(piece, end - received_);
            const std::size_t got = peer_.recv(std::span{buffer}.first(wanted));
            if (got == 0)
                throw std::runtime_error("the connection ended after " + bytes() + " came back");
            const auto right = text().at(begin_ + received_, got);
            if (std::memcmp(buffer.data(), right.data(), got) != 0)
                throw std::runtime_error("a wrong byte came back, after " + bytes());
            received_ += got;
        }
    }

    // Sends and receives at the same time: the buffers of the kernel need not hold the message.
    void exchange(std::size_t count) {
        with_nursery([&](nursery& n) {
            n.spawn([&] { send(count); });
            receive(count);
        });
    }

    void end_of_sending() { peer_.shutdown_send(); }

    // Receives what is missing, and then the end.
    void receive_rest() {
        receive(sent_ - received_);
        std::array<std::byte, 1> more{};
        if (peer_.recv(more) != 0)
            throw std::runtime_error("more came back than the " + bytes() + " that were sent");
    }

    void finish() {
        end_of_sending();
        receive_rest();
    }

    // The end of this object resets the connection.
    void break_at_the_end() { peer_.set_linger(0s); }

    [[nodiscard]] std::size_t sent() const { return sent_; }
    [[nodiscard]] std::size_t missing() const { return sent_ - received_; }

private:
    [[nodiscard]] std::string bytes() const {
        return std::to_string(received_) + " of " + std::to_string(sent_) + " bytes";
    }

    std::size_t begin_; // in the pattern
    std::size_t sent_ = 0;
    std::size_t received_ = 0;
    io::tcp_stream peer_;
};

// Runs a part of the check. Its errors get its name.
void within_patience(const std::string& what, const std::function<void()>& part) {
    try {
        fail_after(patience, part);
    } catch (const timed_out&) {
        throw std::runtime_error(what + ": not done after 20 s");
    } catch (const std::exception& error) {
        throw std::runtime_error(what + ": " + error.what());
    }
}

void send_many_sizes(std::uint16_t port) {
    client peer{port, 0};
    for (const std::size_t size : {1UL, 2UL, 63UL, 64UL, 1000UL, 1460UL, 4096UL, 16383UL, 16384UL,
                                   16385UL, 65536UL, 100'000UL, 1'000'000UL})
        peer.exchange(size);
    peer.finish();
}

void pipeline(std::uint16_t port) {
    client peer{port, 1};
    std::vector<std::size_t> sizes;
    std::size_t all = 0;
    for (std::size_t i = 0; i < 5000; ++i)
        all += sizes.emplace_back(i * i % 701 + 1);
    with_nursery([&](nursery& n) {
        n.spawn([&] {
            for (const std::size_t size : sizes)
                peer.send(size);
        });
        peer.receive(all);
    });
    peer.finish();
}

// All bytes come back after the end of sending, and then the end.
void half_close(std::uint16_t port) {
    for (const std::size_t size : {0UL, 1UL, 16384UL, 300'000UL}) {
        client peer{port, size};
        with_nursery([&](nursery& n) {
            n.spawn([&] {
                peer.send(size);
                peer.end_of_sending();
            });
            peer.receive(size);
        });
        peer.receive_rest();
    }
}

// Connections break at once, in the middle of a message, and while the program waits until it can
// send. The others do not notice.
void reset(std::uint16_t port) {
    with_nursery([&](nursery& n) {
        bool broken = false;
        for (std::size_t i = 0; i < 8; ++i)
            n.spawn([&, i] {
                client steady{port, i};
                while (!broken)
                    steady.exchange(500 + i);
                steady.exchange(20'000);
                steady.finish();
            });
        for (std::size_t i = 0; i < 8; ++i) {
            {
                client{port, i}.break_at_the_end();
            }
            client cut{port, i};
            cut.break_at_the_end();
            cut.send(100'000);
            cut.receive(1000);
            client full{port, i};
            full.break_at_the_end();
            move_on_after(20ms, [&] { full.send(flood); });
        }
        broken = true;
        n.join();
    });
}

// A peer that does not read stops the program from reading, without harm to others. Every byte
// comes back when the peer reads again.
void read_slowly(std::uint16_t port) {
    client slow{port, 2};
    with_nursery([&](nursery& n) {
        n.spawn([&] { slow.send(flood); });
        for (std::size_t before = 1; slow.sent() != before;) {
            before = slow.sent();
            client other{port, 3};
            other.exchange(1000);
            this_fiber::sleep_for(200ms);
        }
        if (slow.sent() == flood)
            throw std::runtime_error("the program read 64 MiB, but its peer read nothing");
        for (int i = 0; i < 50; ++i) {
            slow.receive(1000);
            this_fiber::sleep_for(1ms);
        }
        slow.receive(flood - 50'000);
    });
    slow.finish();
}

void serve_many(std::uint16_t port) {
    with_nursery([&](nursery& n) {
        for (std::size_t i = 0; i < 200; ++i)
            n.spawn([port, i] {
                client peer{port, i};
                for (std::size_t round = 0; round < 10; ++round)
                    peer.exchange((i * 977 + round * 3301) % 20'000 + 1);
                peer.finish();
            });
    });
}

// How often the program has given up its core to wait.
std::uint64_t waits(const program& server) {
    std::ifstream file{"/proc/" + std::to_string(server.pid()) + "/status"};
    std::uint64_t count = 0;
    for (std::string word; file >> word;)
        if (word == "voluntary_ctxt_switches:" && file >> count)
            return count;
    throw std::runtime_error("cannot read how often the program has waited");
}

void stay_idle(const program& server, std::uint16_t port) {
    std::vector<client> idle;
    for (std::size_t i = 0; i < 50; ++i)
        idle.emplace_back(port, i).exchange(100);
    // On a busy machine it may still do what the last message left to do, so one quiet stretch is
    // enough.
    for (int i = 0; i < 10; ++i) {
        const auto before = server.cpu_time();
        const auto waits_before = waits(server);
        this_fiber::sleep_for(300ms);
        if (server.cpu_time() - before < 5ms && waits(server) - waits_before < 5)
            return;
    }
    throw std::runtime_error("the program runs again and again, and no client sends");
}

std::ptrdiff_t descriptors(const program& server) {
    const std::filesystem::directory_iterator all{"/proc/" + std::to_string(server.pid()) + "/fd"};
    return std::distance(begin(all), end(all));
}

// The descriptors that the program has without a connection: its only client knows that it has one
// more. `port`: no other client has connected to it.
std::ptrdiff_t own_descriptors(const program& server, std::uint16_t port) {
    client only{port, 0};
    only.exchange(100);
    const auto all = descriptors(server);
    only.finish();
    return all - 1;
}

void check(const std::string& path) {
    io::run([&] {
        program server{path, {}};
        std::uint16_t port = 0;
        within_patience("its start", [&] { port = server.read_port(); });
        std::ptrdiff_t before = 0;
        within_patience("a first message", [&] { before = own_descriptors(server, port); });
        within_patience("messages of many sizes", [&] { send_many_sizes(port); });
        within_patience("many messages at once", [&] { pipeline(port); });
        within_patience("the end of sending", [&] { half_close(port); });
        within_patience("broken connections beside others", [&] { reset(port); });
        within_patience("a peer that reads slowly", [&] { read_slowly(port); });
        within_patience("200 connections", [&] { serve_many(port); });
        within_patience("idle connections", [&] { stay_idle(server, port); });
        within_patience("the close of all its connections", [&] {
            while (descriptors(server) > before)
                this_fiber::sleep_for(10ms);
        });
        within_patience("a last message", [&] { send_many_sizes(port); });
    });
}

// Waits until the program has done what it was given: for 40 ms it uses no CPU time.
void wait_until_idle(const program& server) {
    const auto limit = std::chrono::steady_clock::now() + patience;
    for (auto before = -1ns; before != server.cpu_time();) {
        if (std::chrono::steady_clock::now() > limit)
            throw std::runtime_error("the program uses its core, and no client sends");
        before = server.cpu_time();
        std::this_thread::sleep_for(40ms);
    }
}

measurement measure(const std::string& path, const load& wanted) {
    measurement seen{};
    std::optional<program> server;
    std::optional<client> first; // pays for what the program makes once; it stays, does not count
    std::uint16_t port = 0;
    io::run([&] {
        within_patience("its start", [&] {
            server.emplace(path, program::options{.count_allocations = wanted.count_allocations});
            port = server->read_port();
        });
        const std::chrono::duration<double, std::nano> start =
            std::chrono::steady_clock::now() - server->started();
        seen.start_nanoseconds = start.count();
        within_patience("a first message", [&] { first.emplace(port, 0).exchange(64); });
    });
    wait_until_idle(*server);
    const auto without_tasks = static_cast<double>(server->resident_bytes());
    const auto bytes_of_a_task = [&] {
        wait_until_idle(*server);
        return (static_cast<double>(server->resident_bytes()) - without_tasks) / wanted.tasks;
    };
    const auto look = [&](bench::echo::moment now) {
        using enum bench::echo::moment;
        switch (now) {
        case connected:
            seen.idle_bytes = bytes_of_a_task();
            break;
        case begins:
            seen.allocations = -static_cast<double>(server->allocations());
            break;
        case ends:
            seen.allocations += static_cast<double>(server->allocations());
            break;
        case answered:
            seen.busy_bytes = bytes_of_a_task();
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

} // namespace

const job echo{"echo", check, measure};

} // namespace creel::bench::same_job
