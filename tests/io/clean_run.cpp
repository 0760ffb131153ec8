#include "clean_run.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>

#include <sys/socket.h>

namespace creel::test {

std::vector<open_descriptor> descriptors_at_rest() {
    io::detail::kernel_ring::close_kept();
    return open_descriptors();
}

void check_nothing_left(const std::vector<open_descriptor>& before) {
    const io::ring_statistics left = io::statistics();
    CHECK(left.operations_in_flight == 0);
    CHECK(left.operations_completed == left.operations_submitted);
    CHECK(left.late_descriptors == 0);
    CHECK(left.buffers_out == 0);
    CHECK(left.registered_files == 0);
    const auto after = descriptors_at_rest();
    for (const open_descriptor& d : after) {
        INFO("descriptor " << d.number << ": " << d.target);
        CHECK(std::find(before.begin(), before.end(), d) != before.end());
    }
    CHECK(after.size() == before.size());
}

void clean_run(io::run_options options, test_body<nursery> f) {
    using namespace std::chrono_literals;
    const auto before = descriptors_at_rest();
    io::run(options, [&](nursery& root) { fail_after(50s, [&] { f(root); }); });
    check_nothing_left(before);
}

void clean_run(test_body<nursery> f) {
    clean_run(io::run_options{}, f);
}

bool receives_stand() {
    return io::detail::current_ring()->receives_may_stand();
}

bool files_are_registered() {
    return io::detail::current_ring()->files().usable();
}

std::pair<io::tcp_stream, io::tcp_stream> stream_pair() {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) < 0)
        throw std::system_error(errno, std::generic_category(), "socketpair");
    return {io::tcp_stream::adopt(fds[0]), io::tcp_stream::adopt(fds[1])};
}

std::pair<io::tcp_stream, io::tcp_stream> tcp_pair() {
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};
    auto client = io::tcp_stream::connect(listener.local_endpoint()); // the backlog has room
    return {std::move(client), listener.accept()};
}

connection::connection() {
    with_nursery([&](nursery& n) {
        n.spawn([&] { server = listener.accept(); });
        client = io::tcp_stream::connect(listener.local_endpoint());
    });
}

void echo(io::tcp_stream peer) {
    std::array<std::byte, 4096> buffer;
    while (const std::size_t n = peer.recv(buffer))
        peer.send_all(std::span{buffer}.first(n));
}

int clients_answered(int clients) {
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};
    int answered = 0;
    with_nursery([&](nursery& n) {
        for (int i = 0; i < clients; ++i) {
            n.spawn([&] {
                auto peer = listener.accept();
                peer.send_all(bytes_of(recv_text(peer)));
            });
            n.spawn([&] {
                auto client = io::tcp_stream::connect(listener.local_endpoint());
                client.send_all(bytes_of("hello"));
                answered += recv_text(client) == "hello" ? 1 : 0;
            });
        }
    });
    return answered;
}

std::vector<std::byte> pattern(std::size_t size_bytes) {
    std::vector<std::byte> bytes(size_bytes);
    std::uint32_t x = 1;
    for (std::byte& b : bytes) {
        x = x * 1664525 + 1013904223;
        b = static_cast<std::byte>(x >> 24);
    }
    return bytes;
}

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span{text.data(), text.size()});
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string recv_text(io::tcp_stream& stream) {
    std::array<std::byte, 4096> buffer;
    const std::size_t n = stream.recv(buffer);
    return text_of(std::span{buffer}.first(n));
}

std::system_error error_of(test_body<> f) {
    try {
        f();
    } catch (const std::system_error& error) {
        return error;
    }
    return std::system_error{std::error_code{}, "nothing was thrown"};
}

void reset_on_close(int fd) {
    const linger at_once{1, 0};
    if (::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) < 0)
        throw std::system_error(errno, std::generic_category(), "SO_LINGER");
}

} // namespace creel::test
