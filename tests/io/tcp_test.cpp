#include "clean_run.hpp"

#include <creel/io/detail/ring.hpp>
#include <creel/io/error.hpp>
#include <support/child_process.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

void echo(io::tcp_stream peer) {
    std::array<std::byte, 4096> buffer;
    while (const std::size_t n = peer.recv(buffer))
        peer.send_all(std::span{buffer}.first(n));
}

// A listener on a free port of the loopback, and a connection through it.
struct connection {
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};
    std::optional<io::tcp_stream> client{};
    std::optional<io::tcp_stream> server{};

    connection() {
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { server = listener.accept(); });
            client = io::tcp_stream::connect(listener.local_endpoint());
        });
    }
};

} // namespace

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
                settle();
                c.server->send_all(bytes_of("defg"));
                settle();
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
        const std::vector<std::byte> sent = pattern(std::size_t{16} << 20);
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
    for (const io::endpoint& where : {io::endpoint::loopback_v6(0), io::endpoint::unix_path(path),
                                      io::endpoint::unix_path("@creel_tcp_test")}) {
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

TEST_CASE("set_no_delay sets TCP_NODELAY") {
    clean_run([] {
        connection c;
        const auto no_delay = [&] {
            int value = -1;
            socklen_t bytes = sizeof value;
            ::getsockopt(c.client->native_handle(), IPPROTO_TCP, TCP_NODELAY, &value, &bytes);
            return value;
        };
        c.client->set_no_delay(true);
        CHECK(no_delay() == 1);
        c.client->set_no_delay(false);
        CHECK(no_delay() == 0);
    });
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

TEST_CASE("an address in use is an error that names the address") {
    clean_run([] {
        const io::tcp_listener first{io::endpoint::loopback_v4(0)};
        const io::endpoint taken = first.local_endpoint();
        const auto error = error_of([&] { const io::tcp_listener second{taken}; });
        CHECK(error.code() == std::errc::address_in_use);
        CHECK_THAT(error.what(), Catch::StartsWith("listen on " + taken.to_string() + ": "));
    });
}

TEST_CASE("two listeners share a port if both ask for it") {
    clean_run([] {
        io::tcp_listener first{io::endpoint::loopback_v4(0), {.reuse_port = true}};
        io::tcp_listener second{first.local_endpoint(), {.reuse_port = true}};
        CHECK(second.local_endpoint() == first.local_endpoint());
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
            settle();
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

TEST_CASE("connections that nobody has taken are counted, and closed with the listener") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                auto first = io::tcp_stream::connect(listener.local_endpoint());
                auto second = io::tcp_stream::connect(listener.local_endpoint());
                settle();
                CHECK(io::statistics().late_descriptors == 1);
                listener.close();
                CHECK(io::statistics().late_descriptors == 0);
                CHECK(io::statistics().operations_in_flight == 0);
                const auto ended = error_of([&] { CHECK(recv_text(second).empty()); });
                CHECK((ended.code() == std::error_code{} ||
                       ended.code() == std::errc::connection_reset));
            });
            const auto first = listener.accept();
        });
    });
}

TEST_CASE("a program that does not accept holds no more than 128 connections open") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        std::vector<io::tcp_stream> clients;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { const auto first = listener.accept(); });
            for (int i = 0; i < 601; ++i)
                clients.push_back(io::tcp_stream::connect(listener.local_endpoint()));
        });
        settle();
        CHECK(io::statistics().late_descriptors >= 100);
        CHECK(io::statistics().late_descriptors <= 400); // 128 and what was under way
        for (int i = 0; i < 600; ++i) {
            auto peer = listener.accept();
            peer.send_all(bytes_of("x"));
        }
        CHECK(io::statistics().late_descriptors == 0);
        int greeted = 0;
        for (std::size_t i = 1; i < clients.size(); ++i)
            greeted += recv_text(clients[i]) == "x" ? 1 : 0;
        CHECK(greeted == 600);
    });
}

TEST_CASE("fibers in accept are served in the order they came") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        std::vector<int> order;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 5; ++i)
                n.spawn([&, i] {
                    const auto peer = listener.accept();
                    order.push_back(i);
                });
            for (int i = 0; i < 5; ++i)
                const auto client = io::tcp_stream::connect(listener.local_endpoint());
        });
        CHECK(order == std::vector<int>{0, 1, 2, 3, 4});
    });
}

TEST_CASE("out of descriptors every accept that waits fails once, and the connection waits") {
    clean_run([] {
        // UBSan needs descriptors the first time it looks at a type, so all is done once before.
        connection earlier;
        earlier.listener.close();
        CHECK(error_of([&] { const auto never = earlier.listener.accept(); }).code() ==
              std::errc::bad_file_descriptor);
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        rlimit before{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
        auto client = io::tcp_stream::connect(listener.local_endpoint());
        // Numbers are given out lowest first, so none below the client's is free.
        rlimit none = before;
        none.rlim_cur = static_cast<rlim_t>(client.native_handle()) + 1;
        std::vector<std::system_error> errors;
        ::setrlimit(RLIMIT_NOFILE, &none);
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    errors.push_back(error_of([&] { const auto never = listener.accept(); }));
                });
        });
        ::setrlimit(RLIMIT_NOFILE, &before);
        CHECK(errors.size() == 3);
        for (const std::system_error& error : errors) {
            CHECK(error.code() == std::errc::too_many_files_open);
            CHECK_THAT(error.what(),
                       Catch::StartsWith("accept on " + listener.local_endpoint().to_string()));
        }
        auto peer = listener.accept();
        peer.send_all(bytes_of("here now"));
        CHECK(recv_text(client) == "here now");
    });
}

namespace {

// Spoils each multishot accept, as a kernel that knows none would refuse it.
int enter_without_multishot(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
                            sigset_t* argument, std::size_t argument_bytes) {
    static io_uring_sqe* const entries = io::detail::current_ring()->entries();
    for (unsigned i = 0; i < 4; ++i) {
        if (entries[i].opcode == IORING_OP_ACCEPT && entries[i].ioprio == IORING_ACCEPT_MULTISHOT)
            entries[i].ioprio = 1U << 15;
    }
    return io_uring_enter2(ring, to_submit, wait_for, flags, argument, argument_bytes);
}

} // namespace

TEST_CASE("a kernel without multishot accepts serves all the same") {
    clean_run({.ring_entries = 4}, [] {
        io::detail::current_ring()->set_enter(&enter_without_multishot);
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        int right = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 10; ++i) {
                n.spawn([&] {
                    auto peer = listener.accept();
                    peer.send_all(bytes_of(recv_text(peer)));
                });
                n.spawn([&] {
                    auto client = io::tcp_stream::connect(listener.local_endpoint());
                    client.send_all(bytes_of("hello"));
                    right += recv_text(client) == "hello" ? 1 : 0;
                });
            }
        });
        CHECK(right == 10);
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

TEST_CASE("a stream moves to another thread, is used and dropped there") {
    clean_run([] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("from here"));
        std::thread other{[b = std::move(b)]() mutable {
            io::run([&] {
                b.send_all(bytes_of(recv_text(b) + ", echoed there"));
                const auto dropped = std::move(b);
            });
        }};
        CHECK(recv_text(a) == "from here, echoed there");
        CHECK(recv_text(a).empty());
        other.join();
    });
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
            settle();
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

TEST_CASE("a busy stream moves to another thread, and what the old ring held of it goes") {
    clean_run([] {
        const std::uint64_t one = files_are_registered() ? 1 : 0;
        auto [a, b] = stream_pair();
        for (int i = 0; i < 100; ++i) {
            a.send_all(bytes_of("x"));
            CHECK(recv_text(b) == "x");
        }
        CHECK(io::statistics().registered_files == 2 * one);
        a.send_all(bytes_of("from here"));
        std::thread other{[b = std::move(b)]() mutable {
            io::run([&] {
                b.send_all(bytes_of(recv_text(b)));
                const auto dropped = std::move(b);
            });
        }};
        CHECK(recv_text(a) == "from here");
        CHECK(recv_text(a).empty());
        CHECK(io::statistics().registered_files == one);
        other.join();
    });
}

// The old ring lets go of the stream only when its thread, which is kept from it, looks.
TEST_CASE("a stream is dropped or closed while its first call on another thread waits for it") {
    const bool dropped = GENERATE(true, false);
    clean_run([&] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("from here"));
        CHECK(recv_text(b) == "from here");
        std::atomic<bool> all_there{false};
        std::array<std::optional<std::system_error>, 3> ends;
        std::thread other{[&, moved = std::optional{std::move(a)}]() mutable {
            io::run([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn(
                        [&] { ends[0] = error_of([&] { static_cast<void>(moved->pending()); }); });
                    n.spawn(
                        [&] { ends[1] = error_of([&] { static_cast<void>(recv_text(*moved)); }); });
                    n.spawn([&] { ends[2] = error_of([&] { moved->send_all(bytes_of("x")); }); });
                    settle();
                    if (dropped)
                        moved.reset();
                    else
                        n.spawn([&] { moved->close(); });
                    settle();
                    all_there = true;
                    all_there.notify_one();
                });
            });
        }};
        all_there.wait(false);
        CHECK(recv_text(b).empty());
        other.join();
        CHECK(ends[1]->code() == std::errc::bad_file_descriptor);
        CHECK(ends[2]->code() == std::errc::bad_file_descriptor);
        if (dropped)
            CHECK(ends[0]->code() == std::errc::bad_file_descriptor);
    });
}

namespace {

// The first call on another thread is cancelled while this one is kept from its ring.
void cancelled_move(io::tcp_stream& stream) {
    bool absorbed = false;
    std::thread{[&] {
        io::run([&] {
            creel::cancel_scope scope;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    settle();
                    scope.cancel();
                });
                absorbed = !scope.run([&] { static_cast<void>(recv_text(stream)); });
            });
        });
    }}.join();
    CHECK(absorbed);
}

// Two streams of this thread's ring, whose second has a standing receive or not.
std::pair<io::tcp_stream, io::tcp_stream> used_pair(bool standing) {
    auto two = stream_pair();
    for (int i = 0; i < (standing ? 10 : 1); ++i) {
        two.first.send_all(bytes_of("x"));
        CHECK(recv_text(two.second) == "x");
    }
    return two;
}

} // namespace

TEST_CASE("the first call on another thread is cancelled although the old thread is busy") {
    const bool standing = GENERATE(false, true);
    clean_run([&] { // then the old thread goes on with it
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        CHECK_FALSE(creel::move_on_after(0s, [&b = b] { static_cast<void>(recv_text(b)); }));
        a.send_all(bytes_of("late"));
        CHECK(recv_text(b) == "late");
    });
    clean_run([&] { // the old thread has answered meanwhile
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        settle();
        a.send_all(bytes_of("late"));
        CHECK(recv_text(b) == "late");
    });
    clean_run([&] { // a third thread takes it
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        a.send_all(bytes_of("late"));
        std::thread other{[moved = std::move(b)]() mutable {
            io::run([&] {
                moved.send_all(bytes_of(recv_text(moved)));
                const auto gone = std::move(moved);
            });
        }};
        CHECK(recv_text(a) == "late");
        CHECK(recv_text(a).empty());
        other.join();
    });
    clean_run([&] { // it is dropped, on this thread or on another
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        std::thread{[gone = std::move(b)] {}}.join();
        CHECK(recv_text(a).empty());
        auto [c, d] = used_pair(standing);
        cancelled_move(d);
        settle();
        { const auto gone = std::move(d); }
        CHECK(recv_text(c).empty());
    });
    std::optional<io::tcp_stream> left; // its thread ends its run, and answers then
    io::run([&] {
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        a.send_all(bytes_of("late"));
        left = std::move(b);
    });
    CHECK(left->native_handle() >= 0);
    io::run([&] {
        CHECK(recv_text(*left) == "late");
        left.reset();
    });
}

TEST_CASE("a stream dropped on a plain thread is closed by its ring") {
    clean_run([] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("x")); // now it belongs to this ring
        CHECK(recv_text(b) == "x");
        std::thread other{[a = std::move(a)] {}};
        CHECK(recv_text(b).empty());
        other.join();
    });
}

TEST_CASE("a listener dropped on a plain thread while it is armed is closed by its ring") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        const io::endpoint where = listener.local_endpoint();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { const auto client = io::tcp_stream::connect(where); });
            const auto peer = listener.accept();
        });
        settle();
        CHECK(io::statistics().operations_in_flight == 1);
        std::thread{[moved = std::move(listener)] {}}.join();
        settle();
        CHECK(io::statistics().operations_in_flight == 0);
        CHECK(error_of([&] { static_cast<void>(io::tcp_stream::connect(where)); }).code() ==
              std::errc::connection_refused);
    });
}

TEST_CASE("streams and listeners outlive their run") {
    std::optional<io::tcp_stream> a;
    std::optional<io::tcp_stream> b;
    const auto before = open_descriptors();
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
