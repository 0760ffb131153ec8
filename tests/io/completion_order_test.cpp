// One wait of each kind is completed and cancelled, or closed, in every order that the kernel
// allows. A cancelled wait has not happened, a wait that has happened returns its result, and
// nothing is lost in either case.
#include "bell.hpp"
#include "clean_run.hpp"
#include "raw_socket.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/readiness.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;

namespace {

// Each kind has: wait(), which parks until a call of complete(); lost_nothing(happened), which
// looks at both ends afterwards; and close(), which closes the descriptor of the wait through
// creel.

struct short_recv {
    std::pair<io::tcp_stream, io::tcp_stream> streams = stream_pair();
    int to_ours = streams.second.native_handle();
    std::string got{};

    void wait() { got = recv_text(streams.first); }
    void complete() { CHECK(::write(to_ours, "word", 4) == 4); }
    bool lost_nothing(bool happened) {
        return happened ? got == "word" : got.empty() && recv_text(streams.first) == "word";
    }
    void close() { streams.first.close(); }
};

struct one_recv : short_recv {
    one_recv() { static_cast<void>(streams.first.native_handle()); } // so no receive stands
};

struct standing_recv : short_recv {
    standing_recv() {
        for (int i = 0; i < 10; ++i) {
            complete();
            CHECK(recv_text(streams.first) == "word");
        }
    }
};

struct one_recv_exact : one_recv {
    std::array<std::byte, 4> buffer{};

    void wait() { streams.first.recv_exact(buffer); }
    bool lost_nothing(bool happened) {
        if (!happened)
            streams.first.recv_exact(buffer);
        return text_of(buffer) == "word";
    }
};

// A stream whose peer's buffer is full, so that a send waits until complete() empties it.
struct full_stream {
    std::pair<io::tcp_stream, io::tcp_stream> streams = stream_pair();
    int from_ours = streams.second.native_handle();
    std::vector<char> room = std::vector<char>(std::size_t{1} << 20);
    std::size_t filled = 0;
    std::size_t drained = 0;

    full_stream() {
        const int fd = streams.first.native_handle();
        for (;;) {
            const auto n = ::send(fd, room.data(), room.size(), MSG_DONTWAIT);
            if (n < 0)
                break;
            filled += static_cast<std::size_t>(n);
        }
    }
    void complete() {
        for (;;) {
            const auto n = ::recv(from_ours, room.data(), room.size(), MSG_DONTWAIT);
            if (n <= 0)
                break;
            drained += static_cast<std::size_t>(n);
        }
    }
    bool all_came_and(std::size_t sent) {
        complete();
        return drained == filled + sent;
    }
    void close() { streams.first.close(); }
};

struct one_send : full_stream {
    std::size_t sent = 0;

    void wait() { sent = streams.first.send(bytes_of("some more")); }
    bool lost_nothing(bool happened) { return (sent > 0) == happened && all_came_and(sent); }
};

// All of it fits once the peer has read.
struct one_send_all : full_stream {
    std::size_t sent = 0;
    std::vector<std::byte> bytes = std::vector<std::byte>(1000);

    void wait() {
        try {
            streams.first.send_all(bytes);
            sent = bytes.size();
        } catch (const creel::partial_cancelled& why) {
            sent = why.bytes_moved();
            throw;
        }
    }
    bool lost_nothing(bool happened) {
        return (sent == bytes.size()) == happened && all_came_and(sent);
    }
};

struct readable_wait : one_recv {
    void wait() { io::wait_readable(streams.first.native_handle()); }
    bool lost_nothing(bool) { return recv_text(streams.first) == "word"; }
};

struct writable_wait : full_stream {
    void wait() { io::wait_writable(streams.first.native_handle()); }
    bool lost_nothing(bool) { return all_came_and(0); }
};

struct one_accept {
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};
    std::uint16_t port = static_cast<std::uint16_t>(listener.local_endpoint().port());
    std::optional<raw_socket> client{};
    std::optional<io::tcp_stream> accepted{};

    void wait() { accepted = listener.accept(); }
    void complete() { client.emplace(raw_client(port)); }
    bool lost_nothing(bool happened) {
        if (happened != accepted.has_value())
            return false;
        if (!accepted)
            accepted = listener.accept();
        accepted->send_all(bytes_of("x"));
        char c = 0;
        return ::recv(client->get(), &c, 1, 0) == 1 && c == 'x';
    }
    void close() { listener.close(); }
};

// A connect to a Unix socket whose backlog is full. It tries again from time to time.
struct one_connect {
    std::string name = "@creel_completion_order_test_" + std::to_string(::getpid());
    raw_socket peer{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    raw_socket filler{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    std::optional<raw_socket> first{};
    std::optional<io::tcp_stream> connected{};

    one_connect() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
        const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
        const auto* any = reinterpret_cast<const sockaddr*>(&address);
        if (::bind(peer.get(), any, length) < 0 || ::listen(peer.get(), 0) < 0 ||
            ::connect(filler.get(), any, length) < 0)
            throw std::system_error(errno, std::generic_category(), "a full Unix listener");
    }
    void wait() { connected = io::tcp_stream::connect(io::endpoint::unix_path(name)); }
    void complete() { first.emplace(::accept4(peer.get(), nullptr, nullptr, SOCK_CLOEXEC)); }
    bool lost_nothing(bool happened) {
        if (happened != connected.has_value())
            return false;
        const int fd = ::accept4(peer.get(), nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0)
            return !happened;
        const raw_socket other{fd};
        if (happened)
            connected->send_all(bytes_of("x"));
        char c = 0;
        return ::recv(other.get(), &c, 1, 0) == (happened ? 1 : 0); // given up: closed
    }
};

enum class order {
    cancelled_before_submission,
    cancelled_before,
    cancel_then_completion, // this order and the next: both in one poll
    completion_then_cancel,
    cancelled_after_delivery, // and before the fiber's turn
};

// True if the wait has succeeded. The code after the wait in the cancelled scope does not go on.
template <typename Kind>
bool happened(Kind& kind, order how) {
    bell late;
    bool succeeded = false;
    bool ended = false;
    bool went_on = false;
    creel::cancel_scope scope;
    creel::with_nursery([&](creel::nursery& n) {
        if (how == order::cancelled_after_delivery)
            n.spawn([&] {
                late.wait();
                scope.cancel();
            });
        n.spawn([&] {
            scope.run([&] {
                kind.wait();
                succeeded = true;
                while (!scope.cancel_called())
                    creel::this_fiber::yield();
                creel::this_fiber::checkpoint();
                went_on = true;
            });
            ended = true;
        });
        if (how == order::cancelled_before_submission)
            creel::this_fiber::yield();
        else
            settle_and_poll();
        CHECK_FALSE(ended);
        switch (how) {
        case order::cancelled_before_submission:
        case order::cancelled_before:
            scope.cancel();
            while (!ended)
                creel::this_fiber::yield();
            kind.complete();
            break;
        case order::cancel_then_completion:
            scope.cancel();
            kind.complete();
            break;
        case order::completion_then_cancel:
            kind.complete();
            scope.cancel();
            break;
        case order::cancelled_after_delivery:
            late.ring();
            kind.complete();
            break;
        }
        while (!ended)
            creel::this_fiber::yield();
    });
    CHECK_FALSE(went_on);
    return succeeded;
}

} // namespace

TEMPLATE_TEST_CASE("what was cancelled before it could complete has not happened", "", one_recv,
                   standing_recv, one_recv_exact, one_send, one_send_all, readable_wait,
                   writable_wait, one_accept, one_connect) {
    const auto how = GENERATE(order::cancelled_before, order::cancelled_before_submission);
    clean_run([&] {
        TestType kind;
        const bool success = happened(kind, how);
        CHECK_FALSE(success);
        const bool whole = kind.lost_nothing(success);
        CHECK(whole);
    });
}

// Without the connect: nothing is delivered to it, because it tries again from time to time.
TEMPLATE_TEST_CASE("what was delivered before the cancel has happened", "", one_recv, standing_recv,
                   one_recv_exact, one_send, one_send_all, readable_wait, writable_wait,
                   one_accept) {
    clean_run([] {
        TestType kind;
        const bool success = happened(kind, order::cancelled_after_delivery);
        CHECK(success);
        const bool whole = kind.lost_nothing(success);
        CHECK(whole);
    });
}

TEMPLATE_TEST_CASE("what completes and is cancelled at once has happened as a whole or not at all",
                   "", one_recv, standing_recv, one_recv_exact, one_send, one_send_all,
                   readable_wait, writable_wait, one_accept, one_connect) {
    const auto how = GENERATE(order::cancel_then_completion, order::completion_then_cancel,
                              order::cancelled_after_delivery);
    clean_run([&] {
        int wrong = 0;
        for (int i = 0; i < 50; ++i) {
            TestType kind;
            const bool success = happened(kind, how);
            wrong += kind.lost_nothing(success) ? 0 : 1;
        }
        CHECK(wrong == 0);
    });
}

TEMPLATE_TEST_CASE("a close while another fiber waits ends the wait with a clear error", "",
                   one_recv, standing_recv, one_recv_exact, one_send, one_send_all, readable_wait,
                   writable_wait, one_accept) {
    const bool submitted = GENERATE(true, false);
    clean_run([&] {
        TestType kind;
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { error = error_of([&] { kind.wait(); }); });
            if (submitted)
                settle_and_poll();
            else
                creel::this_fiber::yield();
            kind.close();
            CHECK(io::statistics().operations_in_flight == 0);
        });
        CHECK(error->code() == std::errc::bad_file_descriptor);
        CHECK_THAT(error->what(), Catch::Contains("closed while "));
    });
}

TEMPLATE_TEST_CASE("a close between a wait's completion and its fiber's turn takes nothing from it",
                   "", one_recv, standing_recv, one_recv_exact, one_send, one_send_all,
                   readable_wait, writable_wait, one_accept) {
    clean_run([] {
        TestType kind;
        const bell late;
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                late.wait();
                kind.close();
            });
            n.spawn([&] { error = error_of([&] { kind.wait(); }); });
            settle_and_poll();
            late.ring();
            kind.complete();
        });
        CHECK(error->code() == std::error_code{}); // there was no error
    });
}
