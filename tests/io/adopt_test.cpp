// Which descriptors tcp_stream::adopt() takes, and how it refuses the others.
#include "clean_run.hpp"
#include "raw_socket.hpp"
#include "support/child_process.hpp"
#include "support/open_descriptors.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;

namespace {

// The message with which adopt refuses fd, after "adopt of descriptor 7: "; fd is closed then.
std::string refused(int fd, std::errc code) {
    const auto before = open_descriptor_count();
    const auto error = error_of([&] { static_cast<void>(io::tcp_stream::adopt(fd)); });
    CHECK(error.code() == code);
    CHECK(open_descriptor_count() == before - 1);
    const std::string start = "adopt of descriptor " + std::to_string(fd) + ": ";
    const std::string text = error.what();
    CHECK_THAT(text, Catch::StartsWith(start));
    return text.substr(std::min(start.size(), text.size()));
}

std::string refused_of(const std::array<int, 2>& pair, std::errc code) {
    const std::string text = refused(pair[0], code);
    ::close(pair[1]);
    return text;
}

int tcp_socket(int flags = 0) {
    return ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

} // namespace

TEST_CASE("adopt refuses what is no stream socket, and says what it is") {
    std::array<int, 2> pair{};
    REQUIRE(::pipe2(pair.data(), O_CLOEXEC) == 0);
    CHECK_THAT(refused_of(pair, std::errc::not_a_socket),
               Catch::StartsWith("a pipe, not a stream socket; io::wait_readable"));
    CHECK_THAT(refused(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC), std::errc::not_a_socket),
               Catch::StartsWith("a file, not a stream socket: "));
    CHECK_THAT(refused(::open("/dev/null", O_RDWR | O_CLOEXEC), std::errc::not_a_socket),
               Catch::StartsWith("a device, not"));
    CHECK_THAT(refused(::eventfd(0, EFD_CLOEXEC), std::errc::not_a_socket),
               Catch::StartsWith("no socket; io::wait_readable"));
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) == 0);
    CHECK_THAT(refused_of(pair, std::errc::wrong_protocol_type),
               Catch::StartsWith("a SOCK_SEQPACKET socket, whose messages"));
    CHECK_THAT(
        refused(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), std::errc::wrong_protocol_type),
        Catch::StartsWith("a datagram socket, whose messages"));
}

TEST_CASE("adopt refuses a stream socket that is not connected") {
    CHECK_THAT(refused(tcp_socket(), std::errc::not_connected),
               Catch::StartsWith("a stream socket that is not connected"));
    CHECK_THAT(refused(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), std::errc::not_connected),
               Catch::StartsWith("a stream socket that is not connected"));
    const int listening = tcp_socket();
    REQUIRE(::listen(listening, 1) == 0);
    CHECK_THAT(refused(listening, std::errc::invalid_argument),
               Catch::StartsWith("a socket that listens"));
    // A socket that is connecting: a backlog of 0 holds one connection, so the second connect
    // gets no answer.
    const raw_socket server{tcp_socket()};
    sockaddr_in to = loopback(0);
    socklen_t size_bytes = sizeof to;
    auto* address = reinterpret_cast<sockaddr*>(&to);
    REQUIRE(::bind(server.get(), address, size_bytes) == 0);
    REQUIRE(::getsockname(server.get(), address, &size_bytes) == 0);
    REQUIRE(::listen(server.get(), 0) == 0);
    const raw_socket first = raw_client(ntohs(to.sin_port));
    const int connecting = tcp_socket(SOCK_NONBLOCK);
    REQUIRE(::connect(connecting, address, size_bytes) < 0);
    CHECK_THAT(refused(connecting, std::errc::not_connected),
               Catch::Contains("one that is connecting becomes writable"));
}

TEST_CASE("adopt of a number that is not open is bad_file_descriptor, and closes nothing") {
    const auto before = open_descriptor_count();
    for (const int fd : {-1, ::fcntl(0, F_DUPFD_CLOEXEC, 100)}) {
        if (fd >= 0)
            ::close(fd);
        const auto error = error_of([&] { static_cast<void>(io::tcp_stream::adopt(fd)); });
        CHECK(error.code() == std::errc::bad_file_descriptor);
        CHECK_THAT(error.what(),
                   Catch::StartsWith("adopt of descriptor " + std::to_string(fd) + ": not open"));
    }
    CHECK(open_descriptor_count() == before);
}

TEST_CASE("adopt takes a stream whose peer has gone or has reset it, which recv then tells") {
    clean_run([] {
        for (const bool reset : {false, true}) {
            auto [a, b] = tcp_pair();
            const std::string name = a.remote_endpoint().to_string();
            const int fd = a.release();
            if (reset)
                reset_on_close(b.native_handle());
            b.close();
            auto adopted = io::tcp_stream::adopt(fd);
            CHECK(adopted.remote_endpoint().to_string() == name);
            const auto error = error_of([&] { static_cast<void>(recv_text(adopted)); });
            CHECK(error.code() ==
                  (reset ? std::make_error_code(std::errc::connection_reset) : std::error_code{}));
        }
        auto [c, d] = stream_pair();
        const int fd = c.release();
        d.close();
        auto adopted = io::tcp_stream::adopt(fd);
        CHECK(recv_text(adopted).empty());
    });
}

TEST_CASE("adopt takes a standard descriptor that is a stream, and leaves another one open") {
    const auto child = run_in_child([] {
        std::array<int, 2> pair{};
        std::array<int, 2> pipe{};
        expect(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()) == 0 && ::pipe(pipe.data()) == 0);
        expect(::dup2(pipe[0], 0) == 0);
        io::run([&] {
            expect(error_of([] { static_cast<void>(io::tcp_stream::adopt(0)); }).code() ==
                   std::errc::not_a_socket);
            expect(::fcntl(0, F_GETFD) >= 0);
            expect(::dup2(pair[0], 0) == 0);
            auto in = io::tcp_stream::adopt(0);
            expect(::write(pair[1], "hello", 5) == 5);
            expect(recv_text(in) == "hello");
        });
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
}
