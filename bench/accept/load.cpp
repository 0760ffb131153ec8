#include "load.hpp"

#include "../system_call.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <stdexcept>
#include <string>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace creel::bench::accepting {
namespace {

constexpr std::uint64_t patience = 5'000'000'000; // ns without progress
constexpr std::uint64_t check_every = 16;

class client {
public:
    client(std::uint16_t port, pid_t server, const std::atomic<std::uint64_t>& finished)
        : server_(server), finished_(finished), server_clock_(cpu_clock_of(server)), port_(port) {}

    load_result run(const load& wanted) {
        const auto turn = wanted.how == pattern::bursts ? &client::burst : &client::stream;
        (this->*turn)(); // warms up
        load_result result{};
        const auto window = static_cast<std::uint64_t>(wanted.window.count());
        const std::uint64_t cpu = nanoseconds(server_clock_);
        const std::uint64_t before = closed_;
        const std::uint64_t end = nanoseconds(CLOCK_MONOTONIC) + window;
        std::uint64_t busy = 0;
        do
            busy += (this->*turn)();
        while (nanoseconds(CLOCK_MONOTONIC) < end);
        result.accepted = closed_ - before;
        result.seconds = static_cast<double>(busy) / 1e9;
        result.server_cpu_seconds = static_cast<double>(nanoseconds(server_clock_) - cpu) / 1e9;
        return result;
    }

private:
    // burst() and stream() each open some connections, wait until the server has closed them, and
    // return the time in ns in which the server could work.
    std::uint64_t burst() {
        stop_server();
        while (opened_ - closed_ < most_open)
            open_one();
        const std::uint64_t start = nanoseconds(CLOCK_MONOTONIC);
        signal_server(SIGCONT);
        wait_for(opened_);
        const std::uint64_t end = nanoseconds(CLOCK_MONOTONIC);
        close_finished();
        return end - start;
    }
    std::uint64_t stream() {
        const std::uint64_t start = nanoseconds(CLOCK_MONOTONIC);
        for (unsigned i = 0; i < most_open; ++i) {
            if (opened_ - closed_ == most_open)
                wait_for(closed_ + 1);
            close_finished();
            open_one();
        }
        wait_for(opened_);
        const std::uint64_t end = nanoseconds(CLOCK_MONOTONIC);
        close_finished();
        return end - start;
    }

    void open_one() { sockets_[opened_++ % most_open] = connect_to_loopback(port_); }

    // Closes the connections that the server has closed. These are the oldest, because a backlog is
    // first come, first served.
    void close_finished() {
        for (const std::uint64_t finished = finished_.load(std::memory_order_acquire);
             closed_ < finished; ++closed_) {
            const int fd = sockets_[closed_ % most_open];
            if (closed_ % check_every == 0)
                check_closed(fd);
            close(fd);
        }
    }

    static void check_closed(int fd) {
        pollfd readable{fd, POLLIN, 0};
        char byte = 0;
        if (poll(&readable, 1, 5000) != 1 || recv(fd, &byte, 1, MSG_DONTWAIT) != 0)
            throw std::runtime_error("a connection that the server has not closed");
    }

    void wait_for(std::uint64_t count) const {
        const std::uint64_t start = nanoseconds(CLOCK_MONOTONIC);
        while (finished_.load(std::memory_order_acquire) < count)
            if (nanoseconds(CLOCK_MONOTONIC) - start > patience)
                throw std::runtime_error("the server has stopped accepting");
    }

    void signal_server(int signal) const {
        if (kill(server_, signal) != 0)
            fail(errno, "kill");
    }

    // Waits until the server is stopped: kill() returns before the signal takes effect.
    void stop_server() const {
        signal_server(SIGSTOP);
        const std::string path = "/proc/" + std::to_string(server_) + "/stat";
        const std::uint64_t start = nanoseconds(CLOCK_MONOTONIC);
        std::string text;
        do {
            std::ifstream file{path};
            if (!std::getline(file, text) || nanoseconds(CLOCK_MONOTONIC) - start > patience)
                throw std::runtime_error("the server cannot be stopped");
        } while (text.find(") T ") == std::string::npos);
    }

    pid_t server_;
    const std::atomic<std::uint64_t>& finished_;
    clockid_t server_clock_;
    std::uint16_t port_;
    std::array<int, most_open> sockets_{};
    std::uint64_t opened_ = 0;
    std::uint64_t closed_ = 0;
};

} // namespace

load_result drive(const load& wanted, std::uint16_t port, pid_t server,
                  const std::atomic<std::uint64_t>& finished) {
    return client{port, server, finished}.run(wanted);
}

} // namespace creel::bench::accepting
