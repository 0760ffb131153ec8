#pragma once

// The backends of the fanout job.

#include "action.hpp"

#include <creel/creel.hpp>

#include <optional>
#include <utility>
#include <vector>

#include <unistd.h>

namespace creel::bench::same_job::fanout {

// A free port of 127.0.0.1, bound by a socket that does not listen. A listener may come and go at
// it (SO_REUSEADDR), and meanwhile no other process gets it.
class held_port {
public:
    held_port();
    held_port(held_port&& other) noexcept
        : socket_(std::exchange(other.socket_, -1)), port_(other.port_) {}
    held_port& operator=(held_port&&) = delete;
    ~held_port() {
        if (socket_ >= 0)
            close(socket_);
    }

    [[nodiscard]] std::uint16_t number() const { return port_; }

private:
    int socket_;
    std::uint16_t port_ = 0;
};

class backend {
public:
    explicit backend(std::size_t index) : index_(index) {}

    [[nodiscard]] std::uint16_t port() const { return port_.number(); }
    [[nodiscard]] std::uint64_t accepted() const { return accepted_; }
    [[nodiscard]] std::size_t open_connections() const { return open_; }

    // Listens, at the same port each time. With `backlog` 0 the kernel holds one connection that is
    // not accepted, and lets further ones wait.
    void listen(int backlog = 4096);

    // Accepts until refuse(). Each connection is a child of the nursery.
    void accept_into(nursery& connections);
    void refuse() { listener_->close(); }

private:
    void serve(io::tcp_stream& peer);
    // False if the connection ends here.
    bool carry_out(io::tcp_stream& peer, std::uint64_t id) const;

    std::size_t index_;
    held_port port_{};
    std::optional<io::tcp_listener> listener_{};
    std::uint64_t accepted_ = 0;
    std::size_t open_ = 0;
};

using all_backends = std::array<backend, backends>;

all_backends listening_backends();
std::vector<std::string> ports_of(const all_backends& all);

} // namespace creel::bench::same_job::fanout
