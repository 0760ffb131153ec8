#include "backend.hpp"

#include "../../../system_call.hpp"
#include "../peer.hpp"

#include <cerrno>
#include <initializer_list>
#include <system_error>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace creel::bench::same_job::fanout {
namespace {

void send_in_pieces(io::tcp_stream& peer, std::string_view line,
                    std::initializer_list<std::size_t> cuts) {
    std::size_t sent = 0;
    for (const std::size_t cut : cuts) {
        send(peer, line.substr(sent, cut - sent));
        sent = cut;
        this_fiber::sleep_for(1ms);
    }
    send(peer, line.substr(sent));
}

void send_garbage(io::tcp_stream& peer, std::uint64_t id) {
    const auto own = std::to_string(id);
    const std::array<std::string, 5> garbage{"\n", "nonsense\n", "\xff\x01 \x02\n", own + "\n",
                                             own + " \n"};
    send(peer, garbage[(id >> 12) % garbage.size()]);
}

// Ends when the program closes the connection.
[[noreturn]] void send_endless_line(io::tcp_stream& peer) {
    for (const std::string part(4096, 'x');; this_fiber::sleep_for(1ms))
        send(peer, part);
}

void expect_end(io::tcp_stream& peer, action before) {
    std::array<std::byte, 1> more{};
    if (peer.recv(more) != 0)
        throw std::runtime_error("the program used the connection to a backend again after " +
                                 std::string{action_names[index_of(before)]});
}

} // namespace

held_port::held_port() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (socket_ < 0)
        fail(errno, "socket");
    const int reuse = 1;
    sockaddr_in own{};
    own.sin_family = AF_INET;
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const address = reinterpret_cast<sockaddr*>(&own);
    socklen_t size = sizeof own;
    if (setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) != 0 ||
        bind(socket_, address, size) != 0 || getsockname(socket_, address, &size) != 0) {
        const int error = errno;
        close(socket_);
        fail(error, "bind");
    }
    port_ = ntohs(own.sin_port);
}

void backend::listen(int backlog) {
    listener_.emplace(io::endpoint::loopback_v4(port()), io::listen_options{.backlog = backlog});
}

void backend::accept_into(nursery& connections) {
    connections.spawn([this, &connections] {
        try {
            for (;;)
                connections.spawn([this, peer = listener_->accept()]() mutable { serve(peer); });
        } catch (const std::system_error& error) {
            if (error.code() != std::errc::bad_file_descriptor)
                throw;
        }
    });
}

void backend::serve(io::tcp_stream& peer) {
    peer.set_linger(0s); // a close is a reset: the ports of thousands would stay in use
    ++accepted_;
    ++open_;
    try {
        line_reader lines;
        while (const auto line = next_line(peer, lines)) {
            const auto id = number(*line);
            if (!id)
                throw std::runtime_error("a backend was asked for '" + std::string{*line} +
                                         "', which is no ID");
            if (!carry_out(peer, *id))
                break;
        }
    } catch (const std::system_error&) { // the program may break a connection at any time
    }
    --open_;
}

bool backend::carry_out(io::tcp_stream& peer, std::uint64_t id) const {
    text line;
    line << id << " ";
    const std::size_t before_value = line.view().size();
    write_value(line, id, index_);
    line << "\n";
    switch (action_of(id, index_)) {
    case action::answer:
        send(peer, line.view());
        return true;
    case action::pieces:
        send_in_pieces(peer, line.view(), {1, before_value, before_value + 1, 200});
        return true;
    case action::slow:
        this_fiber::sleep_for(20ms);
        send(peer, line.view());
        return true;
    case action::close_after:
        peer.set_linger(std::nullopt);
        send(peer, line.view());
        return false;
    case action::close_before:
        peer.set_linger(std::nullopt);
        return false;
    case action::close_within:
        peer.set_linger(std::nullopt);
        send(peer, line.view().substr(0, before_value + 2));
        return false;
    case action::reset_before:
        return false;
    case action::other_id:
        send(peer, (text{} << id + (1U << 12) << line.view().substr(before_value - 1)).view());
        break;
    case action::garbage:
        send_garbage(peer, id);
        break;
    case action::endless:
        send_endless_line(peer);
    case action::silent:
        break;
    case action::late:
        this_fiber::sleep_for(300ms);
        send(peer, line.view());
        break;
    }
    expect_end(peer, action_of(id, index_));
    return false;
}

all_backends listening_backends() {
    all_backends all{backend{0}, backend{1}, backend{2}};
    for (auto& one : all)
        one.listen();
    return all;
}

std::vector<std::string> ports_of(const all_backends& all) {
    std::vector<std::string> ports;
    for (const auto& one : all)
        ports.push_back(std::to_string(one.port()));
    return ports;
}

} // namespace creel::bench::same_job::fanout
