#include "clean_run.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/readiness.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include <sys/socket.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

TEST_CASE("close ends the recv of another fiber with a clear error") {
    clean_run([] {
        auto [a, b] = stream_pair();
        std::optional<std::system_error> error;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] { error = error_of([&] { static_cast<void>(recv_text(a)); }); });
            settle_and_poll();
            a.close();
            CHECK(io::statistics().operations_in_flight == 0);
        });
        CHECK(error->code() == std::errc::bad_file_descriptor);
        CHECK_THAT(error->what(), Catch::Contains("closed while recv was waiting"));
        CHECK(recv_text(b).empty());
    });
}

TEST_CASE("close ends the send of another fiber with a clear error") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const std::vector<std::byte> much(std::size_t{8} << 20);
        std::optional<std::system_error> error;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                error = error_of([&] {
                    for (;;)
                        a.send_all(much);
                });
            });
            settle_and_poll();
            a.close();
        });
        CHECK(error->code() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("close before the other fiber's recv was submitted ends it all the same") {
    clean_run([] {
        auto [a, b] = stream_pair();
        std::optional<std::system_error> error;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] { error = error_of([&] { static_cast<void>(recv_text(a)); }); });
            creel::this_fiber::yield();
            a.close();
        });
        CHECK(error->code() == std::errc::bad_file_descriptor);
    });
}

// The completed operation lies on the stack of a fiber that is about to go on. A cancel of it would
// still be queued after the operation is destroyed.
TEST_CASE("a close between the completion of a recv and its fiber's turn leaves the recv alone") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const int to_a = b.native_handle();
        std::array<int, 2> bell{};
        REQUIRE(::pipe2(bell.data(), O_CLOEXEC) == 0);
        std::string received;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] { // submitted first, so it is ready first
                io::wait_readable(bell[0]);
                a.close();
            });
            n.spawn([&] { received = recv_text(a); });
            settle_and_poll();
            CHECK(::write(bell[1], "!", 1) == 1);
            CHECK(::write(to_a, "just in time", 12) == 12);
        });
        CHECK(received == "just in time");
        CHECK(io::statistics().cancels_submitted == 0);
        settle_and_poll();
        ::close(bell[0]);
        ::close(bell[1]);
    });
}

TEST_CASE("close ends every accept, and the listener's port is free again") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        const io::endpoint where = listener.local_endpoint();
        int ended = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    const auto error = error_of([&] { const auto never = listener.accept(); });
                    ended += error.code() == std::errc::bad_file_descriptor ? 1 : 0;
                });
            settle_and_poll();
            listener.close();
            CHECK(io::statistics().operations_in_flight == 0);
        });
        CHECK(ended == 3);
        const io::tcp_listener again{where, {.reuse_address = false}};
    });
}

TEST_CASE("close ends waits for the descriptor's readiness, and the port is free again") {
    const bool dropped = GENERATE(false, true);
    clean_run([&] {
        std::optional<io::tcp_listener> listener{io::endpoint::loopback_v4(0)};
        const io::endpoint where = listener->local_endpoint();
        std::vector<std::system_error> errors;
        bool cut = false;
        creel::with_nursery([&](creel::nursery& n) {
            const int fd = listener->native_handle();
            creel::cancel_scope scope;
            for (int i = 0; i < 2; ++i)
                n.spawn([&, fd] { errors.push_back(error_of([&] { io::wait_readable(fd); })); });
            n.spawn([&, fd] { cut = !scope.run([&] { io::wait_readable(fd); }); });
            settle_and_poll();
            scope.cancel(); // at the same time
            if (dropped) {
                listener.reset();
                settle_and_poll();
            } else {
                listener->close();
            }
            const io::tcp_listener again{where, {.reuse_address = false}};
            settle_and_poll();
        });
        CHECK(cut);
        CHECK(errors.size() == 2);
        for (const std::system_error& error : errors) {
            CHECK(error.code() == std::errc::bad_file_descriptor);
            CHECK_THAT(error.what(), Catch::Contains("wait_readable on descriptor") &&
                                         Catch::Contains("closed while it was waiting"));
        }
    });
}

TEST_CASE("bug: a wait for the readiness of a stream that is being closed does not join it") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const int fd = a.native_handle();
        std::vector<std::system_error> errors;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                errors.push_back(error_of([&] { static_cast<void>(recv_text(a)); }));
                errors.push_back(error_of([&] { io::wait_readable(fd); })); // closed by now
            });
            settle_and_poll();
            n.spawn([&] { a.close(); });
            n.spawn([&] { errors.push_back(error_of([&] { io::wait_readable(fd); })); });
        });
        CHECK(errors.size() == 3);
        for (const std::system_error& error : errors)
            CHECK(error.code() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("close leaves waits for another descriptor's readiness alone") {
    clean_run([] {
        auto [a, b] = stream_pair();
        auto [c, d] = stream_pair();
        int woken = 0;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                io::wait_readable(a.native_handle());
                ++woken;
            });
            settle_and_poll();
            c.close();
            d.close();
            settle_and_poll();
            CHECK(woken == 0);
            b.send_all(bytes_of("x"));
        });
        CHECK(woken == 1);
    });
}

TEST_CASE("a second close, and use after close, are bad_file_descriptor") {
    clean_run([] {
        auto [a, b] = stream_pair();
        a.close();
        CHECK(error_of([&a = a] { a.close(); }).code() == std::errc::bad_file_descriptor);
        CHECK(error_of([&a = a] { static_cast<void>(recv_text(a)); }).code() ==
              std::errc::bad_file_descriptor);
        CHECK(error_of([&a = a] { a.send_all(bytes_of("x")); }).code() ==
              std::errc::bad_file_descriptor);
        CHECK(error_of([&a = a] { static_cast<void>(a.native_handle()); }).code() ==
              std::errc::bad_file_descriptor);
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        listener.close();
        CHECK(error_of([&] { listener.close(); }).code() == std::errc::bad_file_descriptor);
        CHECK(error_of([&] { const auto never = listener.accept(); }).code() ==
              std::errc::bad_file_descriptor);
    });
}

TEST_CASE("a call on what was closed or released names the former peer, a listener its address") {
    clean_run([] {
        auto [a, b] = tcp_pair();
        const std::string peer = " on the stream to " + a.remote_endpoint().to_string() +
                                 ", which was closed or released: ";
        a.close();
        CHECK_THAT(error_of([&a = a] { a.close(); }).what(), Catch::StartsWith("close" + peer));
        io::tcp_stream moved = std::move(a);
        CHECK_FALSE(moved.is_open());
        CHECK_THAT(error_of([&] { static_cast<void>(recv_text(moved)); }).what(),
                   Catch::StartsWith("recv" + peer));
        CHECK_THAT(error_of([&a = a] { a.close(); }).what(),
                   Catch::StartsWith("close: closed, released or moved from: "));
        const std::string other = b.remote_endpoint().to_string();
        moved = std::move(b);
        CHECK(moved.is_open());
        ::close(moved.release());
        CHECK_THAT(error_of([&] { moved.send_all(bytes_of("x")); }).what(),
                   Catch::StartsWith("send_all on the stream to " + other + ", which was closed"));

        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        const std::string address = listener.local_endpoint().to_string();
        CHECK(listener.is_open());
        listener.close();
        CHECK_FALSE(listener.is_open());
        CHECK_THAT(
            error_of([&] { const auto never = listener.accept(); }).what(),
            Catch::StartsWith("accept on the listener on " + address + ", which was closed"));
    });
}

TEST_CASE("close is not cut short by a cancelled scope") {
    clean_run([] {
        auto [a, b] = stream_pair();
        int ended = 0;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                const auto error = error_of([&] { static_cast<void>(recv_text(a)); });
                ended += error.code() == std::errc::bad_file_descriptor ? 1 : 0;
            });
            settle_and_poll();
            creel::cancel_scope scope;
            const bool whole = scope.run([&] {
                scope.cancel();
                a.close();
            });
            CHECK(whole);
            CHECK(io::statistics().operations_in_flight == 0);
        });
        CHECK(ended == 1);
        CHECK(recv_text(b).empty());
    });
}

TEST_CASE("a stream destroyed under another fiber's recv ends it and closes after it") {
    clean_run([] {
        auto [first, b] = stream_pair();
        std::optional<io::tcp_stream> a{std::move(first)};
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { error = error_of([&] { static_cast<void>(recv_text(*a)); }); });
            settle_and_poll();
            a.reset(); // does not wait
            CHECK_FALSE(error.has_value());
        });
        CHECK(error->code() == std::errc::bad_file_descriptor);
        CHECK(recv_text(b).empty());
    });
}

TEST_CASE("a stream destroyed while a fiber is inside a loop of it ends the loop") {
    clean_run([] {
        auto [first, b] = stream_pair();
        std::optional<io::tcp_stream> a{std::move(first)};
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                std::array<std::byte, 100> buffer;
                error = error_of([&] { a->recv_exact(buffer); });
            });
            settle_and_poll();
            b.send_all(bytes_of("a part of it"));
            settle_and_poll();
            a.reset();
        });
        CHECK(error->code() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("a stream captured by a cancelled child is closed with it") {
    clean_run([] {
        auto [a, b] = stream_pair();
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([mine = std::move(a)]() mutable { static_cast<void>(recv_text(mine)); });
            settle_and_poll();
            n.cancel();
        });
        CHECK(recv_text(b).empty());
        auto [c, d] = stream_pair();
        creel::with_nursery([&, &c = c](creel::nursery& n) {
            n.cancel();
            n.spawn([mine = std::move(c)]() mutable { static_cast<void>(recv_text(mine)); });
        });
        CHECK(recv_text(d).empty());
    });
}

TEST_CASE("a descriptor's number is not reused while an operation on it is under way") {
    clean_run([] {
        auto [first, b] = stream_pair();
        std::optional<io::tcp_stream> a{std::move(first)};
        const int number = a->native_handle();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn(
                [&] { static_cast<void>(error_of([&] { static_cast<void>(recv_text(*a)); })); });
            settle_and_poll();
            a.reset();
            auto [c, d] = stream_pair();
            CHECK(c.native_handle() != number);
            CHECK(d.native_handle() != number);
        });
        CHECK(recv_text(b).empty());
    });
}

// io_close: close() called shutdown(2), which reached every copy of the descriptor.
TEST_CASE("close under a recv that waits leaves a copy of the descriptor as it is") {
    const bool standing = GENERATE(false, true);
    clean_run([&] {
        auto [a, b] = stream_pair();
        for (int i = 0; i < (standing ? 10 : 0); ++i) {
            b.send_all(bytes_of("x"));
            CHECK(recv_text(a) == "x");
        }
        const int copy = ::fcntl(a.native_handle(), F_DUPFD_CLOEXEC, 0);
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                const auto error = error_of([&] { static_cast<void>(recv_text(a)); });
                CHECK(error.code() == std::errc::bad_file_descriptor);
            });
            settle_and_poll();
            a.close();
        });
        CHECK(::send(copy, "still open", 10, MSG_NOSIGNAL) == 10);
        CHECK(recv_text(b) == "still open");
        ::close(copy);
        CHECK(recv_text(b).empty());
    });
}

// io_linger: close(2) blocked the thread for the time of SO_LINGER, here for hours.
TEST_CASE("a stream with SO_LINGER is closed without stopping its thread") {
    const bool dropped = GENERATE(false, true);
    clean_run([&] {
        auto [first, peer] = tcp_pair();
        std::optional<io::tcp_stream> stream{std::move(first)};
        const linger hours{.l_onoff = 1, .l_linger = 10'000};
        const int fd = stream->native_handle();
        CHECK(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hours, sizeof hours) == 0);
        const std::vector<std::byte> much(std::size_t{32} << 20);
        CHECK_FALSE(creel::move_on_after(5ms, [&] { stream->send_all(much); }));
        if (dropped)
            stream.reset();
        else
            stream->close();
        reset_on_close(peer.native_handle());
        peer.close(); // the thread that waits in close(2) goes on
        while (::fcntl(fd, F_GETFD) >= 0)
            creel::this_fiber::sleep_for(1ms);
    });
}

TEST_CASE("a stream on descriptor 0, 1 or 2 leaves that open") {
    clean_run([] {
        std::array<int, 2> fds{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
        const int saved = ::fcntl(0, F_DUPFD_CLOEXEC, 3);
        CHECK(::dup2(fds[0], 0) == 0);
        ::close(fds[0]);
        auto peer = io::tcp_stream::adopt(fds[1]);
        {
            auto borrowed = io::tcp_stream::adopt(0);
            borrowed.send_all(bytes_of("hello"));
        }
        CHECK(recv_text(peer) == "hello");
        CHECK(::send(0, "still open", 10, MSG_NOSIGNAL) == 10);
        CHECK(recv_text(peer) == "still open");
        CHECK((saved >= 0 ? ::dup2(saved, 0) : ::close(0)) == 0);
        ::close(saved);
    });
}
