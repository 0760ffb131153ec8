#include <creel/io/tcp_stream.hpp>

#include "clean_run.hpp"
#include "support/child_process.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/error.hpp>
#include <creel/io/tcp_listener.hpp>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

TEST_CASE("what a client sends is echoed to it") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { echo(listener.accept()); });
            auto client = io::tcp_stream::connect(listener.local_endpoint());
            client.send_all(bytes_of("hello"));
            CHECK(recv_text(client) == "hello");
            client.shutdown_send();
            CHECK(recv_text(client).empty());
        });
    });
}

TEST_CASE("many clients are served at once, each with its own bytes") {
    constexpr int clients = 200;
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        int right = 0;
        creel::with_nursery([&](creel::nursery& servers) {
            servers.spawn([&] {
                for (;;)
                    servers.spawn([peer = listener.accept()]() mutable { echo(std::move(peer)); });
            });
            creel::with_nursery([&](creel::nursery& n) {
                for (int i = 0; i < clients; ++i)
                    n.spawn([&, i] {
                        auto client = io::tcp_stream::connect(listener.local_endpoint());
                        for (int k = 0; k < 20; ++k) {
                            const std::string sent =
                                std::to_string(i) + ":" + std::to_string(k) + std::string(64, '.');
                            client.send_all(bytes_of(sent));
                            std::string got(sent.size(), ' ');
                            client.recv_exact(std::as_writable_bytes(std::span{got}));
                            right += got == sent ? 1 : 0;
                        }
                    });
            });
            servers.cancel();
        });
        CHECK(right == clients * 20);
    });
}

TEST_CASE("recv returns 0 at the end of what the peer sent, again and again") {
    clean_run([] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("last"));
        a.close();
        CHECK(recv_text(b) == "last");
        CHECK(recv_text(b).empty());
        CHECK(recv_text(b).empty());
    });
}

TEST_CASE("after shutdown_send the other direction goes on") {
    clean_run([] {
        connection c;
        c.client->shutdown_send();
        CHECK(recv_text(*c.server).empty());
        c.server->send_all(bytes_of("still here"));
        CHECK(recv_text(*c.client) == "still here");
    });
}

TEST_CASE("recv_exact puts pieces together and says how much it had at an early end") {
    clean_run([] {
        connection c;
        std::array<std::byte, 6> buffer;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                c.server->send_all(bytes_of("abc"));
                settle_and_poll();
                c.server->send_all(bytes_of("defg"));
                settle_and_poll();
                c.server->close();
            });
            c.client->recv_exact(buffer);
        });
        CHECK(text_of(buffer) == "abcdef");
        std::size_t received_bytes = 99;
        std::string what;
        try {
            c.client->recv_exact(buffer);
        } catch (const io::unexpected_eof& eof) {
            received_bytes = eof.received_bytes();
            what = eof.what();
        }
        CHECK(received_bytes == 1);
        CHECK(buffer[0] == std::byte{'g'});
        CHECK_THAT(what, Catch::StartsWith("recv from " + c.listener.local_endpoint().to_string()));
    });
}

TEST_CASE("send_all hands over many megabytes to a slow reader, in order") {
    clean_run([] {
        connection c;
        const std::vector<std::byte> sent = pattern(std::size_t{under_tsan ? 4 : 16} << 20);
        std::vector<std::byte> got;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                c.client->send_all(sent);
                c.client->close();
            });
            std::vector<std::byte> piece(50'000);
            while (const std::size_t bytes = c.server->recv(piece)) {
                got.insert(got.end(), piece.begin(),
                           piece.begin() + static_cast<std::ptrdiff_t>(bytes));
                creel::this_fiber::yield();
            }
        });
        CHECK(got.size() == sent.size());
        CHECK((got == sent));
    });
}

TEST_CASE("send says how much the kernel took") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const std::vector<std::byte> sent = pattern(std::size_t{4} << 20);
        const std::size_t n = a.send(sent);
        CHECK(n > 0);
        CHECK(n < sent.size());
        std::vector<std::byte> got(n);
        b.recv_exact(got);
        CHECK(std::equal(got.begin(), got.end(), sent.begin()));
    });
}

TEST_CASE("one fiber receives while another sends on the same stream") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const std::vector<std::byte> sent = pattern(std::size_t{2} << 20);
        std::vector<std::byte> got(sent.size());
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&a = a] { echo(std::move(a)); });
            n.spawn([&] {
                b.send_all(sent);
                b.shutdown_send();
            });
            b.recv_exact(got);
        });
        CHECK((got == sent));
    });
}

TEST_CASE("empty buffers move nothing and do not wait") {
    clean_run([] {
        auto [a, b] = stream_pair();
        CHECK(a.recv({}) == 0);
        CHECK(a.send({}) == 0);
        a.send_all({});
        a.recv_exact({});
        b.close();
    });
}

TEST_CASE("calls with empty buffers are cancellation points like any other") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const std::array<std::function<void()>, 4> calls{
            [&a = a] { static_cast<void>(a.recv({})); },
            [&a = a] { static_cast<void>(a.send({})); },
            [&a = a] { a.recv_exact({}); },
            [&a = a] { a.send_all({}); },
        };
        for (const auto& call : calls) {
            creel::cancel_scope scope;
            CHECK_FALSE(scope.run([&] {
                scope.cancel();
                call();
            }));
            bool other_ran = false;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { other_ran = true; });
                for (int i = 0; i < 1'000; ++i) // more than a fiber's budget
                    call();
                CHECK(other_ran);
            });
        }
    });
}

TEST_CASE("both ends know their addresses") {
    clean_run([] {
        connection c;
        CHECK(c.client->remote_endpoint() == c.listener.local_endpoint());
        CHECK(c.server->local_endpoint() == c.listener.local_endpoint());
        CHECK(c.server->remote_endpoint() == c.client->local_endpoint());
        CHECK(c.listener.local_endpoint().port() != 0);
    });
}

TEST_CASE("IPv6 and Unix paths carry streams as IPv4 does") {
    const std::string path = "/tmp/creel_tcp_test_" + std::to_string(::getpid());
    for (const io::endpoint& where :
         {io::endpoint::loopback_v6(0), io::endpoint::unix_path(path),
          io::endpoint::unix_path("@creel_tcp_test_" + std::to_string(::getpid()))}) {
        INFO(where);
        clean_run([&] {
            io::tcp_listener listener{where};
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { echo(listener.accept()); });
                auto client = io::tcp_stream::connect(listener.local_endpoint());
                client.send_all(bytes_of("hello"));
                CHECK(recv_text(client) == "hello");
            });
        });
    }
    ::unlink(path.c_str());
}

TEST_CASE("a connection that is refused is an error that names the address") {
    clean_run([] {
        io::endpoint nobody;
        {
            io::tcp_listener listener{io::endpoint::loopback_v4(0)};
            nobody = listener.local_endpoint();
        }
        const auto error = error_of([&] { static_cast<void>(io::tcp_stream::connect(nobody)); });
        CHECK(error.code() == std::errc::connection_refused);
        CHECK_THAT(error.what(), Catch::StartsWith("connect to " + nobody.to_string() + ": "));
    });
}

TEST_CASE("an adopted descriptor that is nonblocking waits like any other") {
    clean_run([] {
        std::array<int, 2> fds{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) ==
                0);
        auto a = io::tcp_stream::adopt(fds[0]);
        auto b = io::tcp_stream::adopt(fds[1]);
        const std::vector<std::byte> sent = pattern(std::size_t{2} << 20);
        std::vector<std::byte> got(sent.size());
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&a = a, &got] { a.recv_exact(got); });
            settle_and_poll();
            b.send_all(sent);
        });
        CHECK((got == sent));
        CHECK(io::statistics().enters < 10'000); // it waited and did not spin
    });
}

TEST_CASE("release gives the descriptor back and leaves the stream empty") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const int fd = a.release();
        CHECK(::write(fd, "raw", 3) == 3);
        CHECK(recv_text(b) == "raw");
        CHECK(error_of([&a = a] { static_cast<void>(a.recv({})); }).code() ==
              std::errc::bad_file_descriptor);
        ::close(fd);
        CHECK(recv_text(b).empty());
    });
}

TEST_CASE("a stream moved from is empty, and what it is assigned to closes its own") {
    clean_run([] {
        auto [a, b] = stream_pair();
        auto [c, d] = stream_pair();
        a = std::move(c);
        CHECK(recv_text(b).empty()); // the old a
        d.send_all(bytes_of("for a"));
        CHECK(recv_text(a) == "for a");
        CHECK(error_of([&c = c] { c.send_all(bytes_of("x")); }).code() ==
              std::errc::bad_file_descriptor);
    });
}

TEST_CASE("descriptors are not inherited by programs that are executed") {
    clean_run([] {
        connection c;
        for (const int fd :
             {c.listener.native_handle(), c.client->native_handle(), c.server->native_handle()})
            CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    });
}

TEST_CASE("two fibers that receive on one stream are a bug that is caught") {
    const auto child = run_in_child([] {
        io::run([] {
            auto [a, b] = stream_pair();
            creel::with_nursery([&a = a](creel::nursery& n) {
                for (int i = 0; i < 2; ++i)
                    n.spawn([&] { static_cast<void>(recv_text(a)); });
            });
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text,
               Catch::Contains("two fibers receive on one stream at once, whose peer is "));
}

TEST_CASE("a call off the threads of io::run is a bug that is caught and named") {
    const auto child = run_in_child([] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("x"));
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("send") && Catch::Contains("io::run"));
}

TEST_CASE("a busy stream is in the ring's file table until it is closed, and the peer sees that") {
    clean_run([] {
        const std::uint64_t one = files_are_registered() ? 1 : 0;
        connection c;
        const auto exchange = [&](int times) {
            for (int i = 0; i < times; ++i) {
                c.client->send_all(bytes_of("x"));
                CHECK(recv_text(*c.server) == "x");
            }
        };
        exchange(5);
        CHECK(io::statistics().registered_files == 0);
        exchange(100);
        CHECK(io::statistics().registered_files == 2 * one);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const auto error = error_of([&] { static_cast<void>(recv_text(*c.client)); });
                CHECK(error.code() == std::errc::bad_file_descriptor);
            });
            settle_and_poll();
            c.client->close();
        });
        CHECK(io::statistics().registered_files == one);
        CHECK(recv_text(*c.server).empty());
        // A slot is used again.
        connection d;
        for (int i = 0; i < 100; ++i) {
            d.client->send_all(bytes_of("y"));
            CHECK(recv_text(*d.server) == "y");
        }
        CHECK(io::statistics().registered_files == 3 * one);
        const int fd = d.client->release();
        CHECK(io::statistics().registered_files == 2 * one);
        ::close(fd);
        CHECK(recv_text(*d.server).empty());
    });
}

TEST_CASE("streams and listeners outlive their run") {
    std::optional<io::tcp_stream> a;
    std::optional<io::tcp_stream> b;
    const auto before = descriptors_at_rest();
    std::optional<io::tcp_listener> listener;
    io::run([&] {
        listener.emplace(io::endpoint::loopback_v4(0));
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { b = listener->accept(); });
            a = io::tcp_stream::connect(listener->local_endpoint());
        });
        a->send_all(bytes_of("before"));
    });
    CHECK(io::statistics().operations_in_flight == 0);
    io::run([&] {
        CHECK(recv_text(*b) == "before");
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { b = listener->accept(); });
            a = io::tcp_stream::connect(listener->local_endpoint());
        });
        a->send_all(bytes_of("after"));
        CHECK(recv_text(*b) == "after");
    });
    a.reset();
    b.reset();
    listener.reset();
    check_nothing_left(before);
}
