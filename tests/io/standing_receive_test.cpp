#include "clean_run.hpp"
#include "support/child_process.hpp"
#include "support/seed.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/detail/ring/hangup_probe.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/readiness.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

bool no_memory_for_arrays = false;

} // namespace

// Replaces the nothrow new[] in the whole program; only the library calls that one.
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
    if (no_memory_for_arrays)
        return nullptr;
    try {
        return ::operator new[](bytes);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

namespace {

// A pair whose second stream has received short messages until its receive stands.
struct standing_pair {
    io::tcp_stream client;
    io::tcp_stream server;

    standing_pair() : standing_pair(stream_pair()) {}
    explicit standing_pair(std::pair<io::tcp_stream, io::tcp_stream> two)
        : client(std::move(two.first)), server(std::move(two.second)) {
        for (int i = 0; i < 10; ++i)
            exchange();
    }

    void exchange() {
        client.send_all(bytes_of("ping"));
        CHECK(recv_text(server) == "ping");
    }
};

std::uint64_t standing() {
    return io::statistics().receives_standing;
}

std::vector<std::byte> numbered(std::size_t size_bytes, std::uint32_t seed = 1) {
    std::vector<std::byte> bytes(size_bytes);
    for (std::byte& b : bytes) {
        seed = seed * 1664525 + 1013904223;
        b = static_cast<std::byte>(seed >> 24);
    }
    return bytes;
}

} // namespace

TEST_CASE("the receive of a stream with short messages stands") {
    clean_run([] {
        auto [client, server] = stream_pair();
        for (int i = 0; i < 8; ++i) {
            client.send_all(bytes_of("ping"));
            CHECK(recv_text(server) == "ping");
        }
        CHECK(standing() == 0);
        const std::string all = "0123456789";
        for (const char& c : all) {
            client.send_all(bytes_of(std::string_view{&c, 1}));
            CHECK(recv_text(server) == std::string(1, c));
        }
        CHECK(standing() == (receives_stand() ? 1 : 0));
        CHECK(io::statistics().buffers_out == 0);
    });
}

TEST_CASE("what arrives while no recv waits is held and comes in its order") {
    clean_run([] {
        standing_pair pair;
        for (const char* part : {"one ", "two ", "three"}) {
            pair.client.send_all(bytes_of(part));
            settle_and_poll();
        }
        CHECK(pair.server.pending() == (receives_stand() ? 13 : 0));
        CHECK(io::statistics().buffers_out == (receives_stand() ? 3 : 0));
        std::array<std::byte, 6> some;
        pair.server.recv_exact(some);
        CHECK(text_of(some) == "one tw");
        CHECK(pair.server.pending() == (receives_stand() ? 7 : 0));
        CHECK(recv_text(pair.server) == "o three");
        CHECK(pair.server.pending() == 0);
        CHECK(io::statistics().buffers_out == 0);
        pair.exchange();
    });
}

TEST_CASE("a message that is longer than the buffer of its recv is not cut") {
    clean_run([] {
        standing_pair pair;
        std::array<std::byte, 3> three;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { pair.client.send_all(bytes_of("abcdefgh")); });
            CHECK(pair.server.recv(three) == 3);
        });
        CHECK(text_of(three) == "abc");
        CHECK(recv_text(pair.server) == "defgh");
    });
}

TEST_CASE("a cancelled recv of a standing receive loses no byte") {
    clean_run([] {
        standing_pair pair;
        CHECK_FALSE(creel::move_on_after(0s, [&] { static_cast<void>(recv_text(pair.server)); }));
        std::optional<std::string> cut;
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                settle_and_poll();
                scope.cancel();
            });
            scope.run([&] { cut = recv_text(pair.server); });
        });
        CHECK_FALSE(cut);
        CHECK(io::statistics().cancels_submitted == (receives_stand() ? 0 : 1)); // it stands on
        pair.exchange();
    });
}

TEST_CASE("cancels that race with messages lose no byte of a standing receive", "[stress]") {
    const std::uint32_t seed = printed_seed("standing receive, cancels");
    INFO("seed " << seed);
    clean_run([&] {
        standing_pair pair;
        std::minstd_rand random{seed};
        std::string sent;
        std::string received;
        int cut = 0;
        for (int i = 0; i < 5'000; ++i) {
            creel::cancel_scope scope;
            const unsigned order = random() % 4;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    const std::string text = std::to_string(i) + ' ';
                    if (order == 0)
                        scope.cancel();
                    sent += text;
                    pair.client.send_all(bytes_of(text));
                    if (order == 1)
                        creel::this_fiber::yield();
                    scope.cancel();
                });
                if (order == 3)
                    creel::this_fiber::yield();
                if (!scope.run([&] { received += recv_text(pair.server); }))
                    ++cut;
            });
        }
        while (received.size() < sent.size())
            received += recv_text(pair.server);
        CHECK(received == sent);
        CHECK(cut > 0);
    });
}

TEST_CASE("a long message ends a standing receive and arrives whole") {
    clean_run([] {
        standing_pair pair;
        const auto sent = numbered(300'000);
        std::vector<std::byte> received(sent.size());
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { pair.client.send_all(sent); });
            pair.server.recv_exact(received);
        });
        CHECK((received == sent));
        CHECK(standing() == 0);
        for (int i = 0; i < 10; ++i)
            pair.exchange();
        CHECK(standing() == (receives_stand() ? 1 : 0));
    });
}

TEST_CASE("a peer that floods a stream nobody reads fills neither memory nor the ring's buffers") {
    clean_run([] {
        standing_pair pair;
        const auto sent = numbered(200'000);
        std::vector<std::byte> received(sent.size());
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (std::size_t at = 0; at < sent.size(); at += 500)
                    pair.client.send_all(std::span{sent}.subspan(at, 500));
            });
            while (standing() != 0)
                creel::this_fiber::yield();
            // A standing receive takes at most 32 messages at a time (MULTISHOT_MAX_RETRY in
            // io_uring/net.c) before it notices that it must end.
            CHECK(pair.server.pending() <= 64 * 2048);
            pair.server.recv_exact(received);
        });
        CHECK((received == sent));
        CHECK(io::statistics().buffers_out == 0);
    });
}

// While the cancel of the receive waited for a moment without messages, the bytes filled memory,
// and each message copied all those before it.
TEST_CASE("a peer on another core that floods a stream nobody reads is held back") {
    clean_run([] {
        constexpr std::size_t total = 64'000'000;
        standing_pair pair{tcp_pair()};
        const auto part = numbered(1000);
        std::atomic<bool> ended{false};
        std::size_t sent = 0;
        std::thread flood{[&, fd = pair.client.native_handle()] {
            pollfd writable{fd, POLLOUT, 0};
            while (sent < total && (sent == 0 || ::poll(&writable, 1, 200) > 0)) {
                const auto rest = std::span{part}.subspan(sent % part.size());
                const auto n = ::send(fd, rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
                sent += n > 0 ? static_cast<std::size_t>(n) : 0;
            }
            ended = true;
        }};
        while (!ended)
            creel::this_fiber::yield();
        flood.join();
        CHECK(sent < total);
        // No more than all buffers of the ring, and the four messages that were held before.
        CHECK(pair.server.pending() <= (256 + 4) * 2048);
        std::vector<std::byte> received(sent);
        pair.server.recv_exact(received);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < sent; ++i)
            wrong += received[i] != part[i % part.size()];
        CHECK(wrong == 0);
    });
}

TEST_CASE("a stream that is read in small pieces of what its peer sends gets single receives") {
    clean_run([] {
        auto [client, server] = tcp_pair(); // a Unix socket does not tell what it holds before 6.17
        client.send_all(numbered(1000));
        std::array<std::byte, 50> piece;
        for (int i = 0; i < 20; ++i)
            server.recv_exact(piece);
        CHECK(standing() == 0);
    });
}

TEST_CASE("streams that find no buffer of the ring receive without one") {
    clean_run([] {
        constexpr std::size_t streams = 300; // the ring has 256 buffers
        std::vector<std::unique_ptr<standing_pair>> pairs;
        for (std::size_t i = 0; i < streams; ++i)
            pairs.push_back(std::make_unique<standing_pair>());
        CHECK(standing() == (receives_stand() ? streams : 0));
        for (std::size_t i = 0; i < streams; ++i)
            pairs[i]->client.send_all(bytes_of("message " + std::to_string(i)));
        settle_and_poll();
        CHECK(io::statistics().buffers_out == (receives_stand() ? 128 : 0)); // the rest is carried
        std::size_t right = 0;
        for (std::size_t i = 0; i < streams; ++i)
            right += recv_text(pairs[i]->server) == "message " + std::to_string(i) ? 1 : 0;
        CHECK(right == streams);
        CHECK(io::statistics().buffers_out == 0);
        for (auto& pair : pairs)
            pair->exchange();
    });
}

TEST_CASE("an end comes after what was held") {
    clean_run([] {
        standing_pair pair;
        pair.client.send_all(bytes_of("last words"));
        pair.client.shutdown_send();
        settle_and_poll();
        CHECK(recv_text(pair.server) == "last words");
        CHECK(recv_text(pair.server).empty());
        CHECK(recv_text(pair.server).empty());
        pair.server.send_all(bytes_of("noted"));
        CHECK(recv_text(pair.client) == "noted");
    });
}

namespace {

void write_raw(int fd, std::string_view text) {
    REQUIRE(::send(fd, text.data(), text.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(text.size()));
}

} // namespace

TEST_CASE("a kernel that misses what comes right behind a message is known by a trial") {
    const std::optional<bool> seen = io::detail::hangup_behind_message_is_seen();
    CHECK(seen.has_value()); // the answer is the kernel's
    CHECK(io::detail::kernel_sees_hangups() == seen);
    CHECK(io::detail::hangup_behind_message_is_seen(false) == false);
}

// The second thread's ring is at the address that the first one's had: TSan took that for a race.
TEST_CASE("trials that two threads make in turn are no race") {
    std::atomic<int> turn{0};
    const auto take_turns = [&](int mine) {
        for (int each = 0; each < 8; ++each) {
            while (turn.load(std::memory_order_relaxed) % 2 != mine)
                std::this_thread::yield();
            static_cast<void>(io::detail::hangup_behind_message_is_seen());
            turn.fetch_add(1, std::memory_order_relaxed); // orders nothing, as the kernel's does
        }
    };
    std::thread second{take_turns, 1};
    take_turns(0);
    second.join();
    CHECK(turn == 16);
}

TEST_CASE("a trial that fails for want of descriptors is no answer") {
    const auto child = run_in_child([] {
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        const rlim_t before = std::exchange(limit.rlim_cur, 0);
        ::setrlimit(RLIMIT_NOFILE, &limit);
        const bool none = !io::detail::hangup_behind_message_is_seen().has_value();
        limit.rlim_cur = before;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        ::_exit(none && io::detail::hangup_behind_message_is_seen().has_value() ? 7 : 1);
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
}

// The kernel gets two wake-ups before it handles the first. A multishot receive may then miss the
// second for ever ("io_uring/poll: fix multishot recv missing EOF on wakeup race").
TEST_CASE("an end that comes right behind a message is not missed by a standing receive") {
    clean_run([] {
        standing_pair local;
        standing_pair tcp{tcp_pair()};
        for (standing_pair* pair : {&local, &tcp}) {
            const int fd = pair->client.native_handle();
            write_raw(fd, "last words");
            ::shutdown(fd, SHUT_WR);
            CHECK(recv_text(pair->server) == "last words");
            CHECK(recv_text(pair->server).empty());
        }
    });
}

TEST_CASE("a reset that comes right behind a message is not missed by a standing receive") {
    clean_run([] {
        standing_pair pair{tcp_pair()};
        const int fd = pair.client.release();
        reset_on_close(fd);
        write_raw(fd, "last words");
        ::close(fd);
        CHECK(recv_text(pair.server) == "last words");
        const auto error = error_of([&] { static_cast<void>(recv_text(pair.server)); });
        CHECK(error.code() == std::errc::connection_reset);
    });
}

TEST_CASE("a reset while a recv waits in a standing receive is an error that names the peer") {
    clean_run([] {
        standing_pair pair{tcp_pair()};
        const std::string name = pair.client.local_endpoint().to_string();
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { error = error_of([&] { static_cast<void>(recv_text(pair.server)); }); });
            settle_and_poll();
            reset_on_close(pair.client.native_handle());
            pair.client.close();
        });
        CHECK(error->code() == std::errc::connection_reset);
        CHECK_THAT(error->what(), Catch::StartsWith("recv from " + name + ": "));
    });
}

TEST_CASE("a reset comes after what was held") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        std::optional<io::tcp_stream> accepted;
        std::optional<io::tcp_stream> connected;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { accepted = listener.accept(); });
            connected = io::tcp_stream::connect(listener.local_endpoint());
        });
        standing_pair pair{{std::move(*connected), std::move(*accepted)}};
        pair.client.send_all(bytes_of("last words"));
        settle_and_poll();
        reset_on_close(pair.client.native_handle());
        pair.client.close();
        settle_and_poll();
        CHECK(recv_text(pair.server) == "last words");
        const auto error = error_of([&] { static_cast<void>(recv_text(pair.server)); });
        CHECK(error.code() == std::errc::connection_reset);
        CHECK_THAT(error.what(), Catch::Contains("recv from 127.0.0.1:"));
    });
}

TEST_CASE("held bytes outlast a half-close of their own side") {
    clean_run([] {
        standing_pair pair;
        pair.client.send_all(bytes_of("kept"));
        settle_and_poll();
        pair.server.shutdown_send();
        CHECK(recv_text(pair.server) == "kept");
    });
}

TEST_CASE("closing a stream ends its standing receive and gives its buffers back") {
    clean_run([] {
        standing_pair waited;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const auto error = error_of([&] { static_cast<void>(recv_text(waited.server)); });
                CHECK(error.code() == std::errc::bad_file_descriptor);
                CHECK_THAT(error.what(), Catch::Contains("closed while recv was waiting"));
            });
            settle_and_poll();
            waited.server.close();
        });
        standing_pair held;
        held.client.send_all(bytes_of("unread"));
        settle_and_poll();
        CHECK(io::statistics().buffers_out == (receives_stand() ? 1 : 0));
        held.server.close();
        CHECK(io::statistics().buffers_out == 0);
        CHECK(standing() == 0);
        {
            standing_pair dropped;
            dropped.client.send_all(bytes_of("unread"));
            settle_and_poll();
        }
        settle_and_poll();
        CHECK(io::statistics().buffers_out == 0);
        CHECK(standing() == 0);
    });
}

// io_emfile_standing, io_rebind: the kernel held the socket open until the next poll.
TEST_CASE("the peer of a stream whose receive stands sees its end when the destructor returns") {
    clean_run([] {
        std::optional<standing_pair> pair{std::in_place};
        const int peer = ::fcntl(pair->client.native_handle(), F_DUPFD_CLOEXEC, 0);
        { const auto gone = std::move(pair->server); }
        char byte = 0;
        CHECK(::recv(peer, &byte, 1, MSG_DONTWAIT) == 0);
        CHECK(standing() == 0);
        ::close(peer);
    });
}

// io_close: close(2) resets a stream with bytes that no recv has read. Here the ring has read them.
TEST_CASE("a stream is closed by a reset if the ring holds bytes that no recv asked for") {
    clean_run([] {
        standing_pair pair{tcp_pair()};
        pair.client.send_all(bytes_of("never read"));
        settle_and_poll();
        CHECK(pair.server.pending() == (receives_stand() ? 10 : 0));
        pair.server.close();
        const auto error = error_of([&] { static_cast<void>(recv_text(pair.client)); });
        CHECK(error.code() == std::errc::connection_reset);
    });
}

// io_held: a few streams without a reader took all buffers from the others.
TEST_CASE("streams that are flooded and not read hold few buffers of the ring") {
    clean_run([] {
        std::vector<std::unique_ptr<standing_pair>> pairs;
        for (int i = 0; i < 10; ++i)
            pairs.push_back(std::make_unique<standing_pair>());
        const auto sent = numbered(60'000);
        for (auto& pair : pairs)
            pair->client.send_all(sent);
        settle_and_poll();
        CHECK(io::statistics().buffers_out <= 40);
        std::vector<std::byte> received(sent.size());
        for (auto& pair : pairs) {
            pair->server.recv_exact(received);
            CHECK((received == sent));
        }
        CHECK(io::statistics().buffers_out == 0);
    });
}

TEST_CASE("a close that is to reset its peer does so although a receive stands") {
    const bool waited = GENERATE(false, true);
    clean_run([&] {
        if (!receives_stand())
            return;
        auto two = tcp_pair();
        const int fd = two.second.release(); // the ring must end its receive before fd is used
        reset_on_close(fd);
        standing_pair pair{{std::move(two.first), io::tcp_stream::adopt(fd)}};
        CHECK(standing() == 1);
        creel::with_nursery([&](creel::nursery& n) {
            if (waited)
                n.spawn([&] {
                    const auto error = error_of([&] { static_cast<void>(recv_text(pair.server)); });
                    CHECK(error.code() == std::errc::bad_file_descriptor);
                });
            settle_and_poll();
            pair.server.close();
        });
        const auto error = error_of([&] { static_cast<void>(recv_text(pair.client)); });
        CHECK(error.code() == std::errc::connection_reset);
    });
}

TEST_CASE("a stream outlives its ring with what that had received for it") {
    std::optional<standing_pair> pair;
    std::size_t held_bytes = 0;
    io::run([&] {
        held_bytes = receives_stand() ? 5 : 0;
        pair.emplace();
        pair->client.send_all(bytes_of("held "));
        settle_and_poll();
        pair->client.send_all(bytes_of("on its way "));
    });
    CHECK(io::statistics().operations_in_flight == 0);
    CHECK(io::statistics().buffers_out == 0);
    CHECK(pair->server.pending() >= held_bytes);
    io::run([&] {
        pair->client.send_all(bytes_of("new"));
        std::array<std::byte, 19> all;
        pair->server.recv_exact(all);
        CHECK(text_of(all) == "held on its way new");
        pair.reset();
    });
}

TEST_CASE("a stream that has lost bytes for want of memory is broken for good") {
    std::optional<standing_pair> pair;
    bool holds = false;
    io::run([&] {
        holds = receives_stand();
        pair.emplace();
        pair->client.send_all(bytes_of("lost"));
        settle_and_poll();
        pair->client.send_all(bytes_of("behind the gap"));
        no_memory_for_arrays = true;
    });
    no_memory_for_arrays = false;
    CHECK(io::statistics().buffers_out == 0);
    io::run([&] {
        for (int i = 0; i < 3 && holds; ++i) {
            const auto error = error_of([&] { static_cast<void>(recv_text(pair->server)); });
            CHECK(error.code() == std::errc::not_enough_memory);
        }
        if (holds)
            CHECK(recv_text(pair->client).empty()); // its peer is told
        pair.reset();
    });
}

TEST_CASE("a stream moves to another thread with what its ring had received for it") {
    clean_run([] {
        standing_pair pair;
        pair.client.send_all(bytes_of("held "));
        settle_and_poll();
        pair.client.send_all(bytes_of("on its way "));
        std::string received;
        std::thread other{[&received, server = std::move(pair.server)]() mutable {
            io::run([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] { server.send_all(bytes_of("here")); }); // both come at once
                    while (received.size() < 19)
                        received += recv_text(server);
                });
                const auto gone = std::move(server);
            });
        }};
        CHECK(recv_text(pair.client) == "here");
        pair.client.send_all(bytes_of("new"));
        CHECK(recv_text(pair.client).empty());
        other.join();
        CHECK(received == "held on its way new");
        CHECK(standing() == 0);
        CHECK(io::statistics().buffers_out == 0);
    });
}

TEST_CASE("a stream with a standing receive is dropped on another thread") {
    clean_run([] {
        standing_pair pair;
        pair.client.send_all(bytes_of("unread"));
        settle_and_poll();
        std::thread{[gone = std::move(pair.server)] {}}.join();
        // The bytes that no recv has asked for are in the ring's buffer, or were in the socket.
        const auto end = error_of([&] { static_cast<void>(recv_text(pair.client)); });
        CHECK((receives_stand() ? !end.code() : end.code() == std::errc::connection_reset));
        CHECK(io::statistics().buffers_out == 0);
    });
}

TEST_CASE("a program that asks for the native handle can receive from it") {
    clean_run([] {
        if (!receives_stand())
            return;
        standing_pair pair;
        pair.client.send_all(bytes_of("early"));
        settle_and_poll();
        const int fd = pair.server.native_handle();
        CHECK(standing() == 0);
        CHECK(pair.server.pending() == 5);
        pair.client.send_all(bytes_of("late"));
        io::wait_readable(fd);
        std::array<char, 16> buffer;
        CHECK(::recv(fd, buffer.data(), buffer.size(), 0) == 4);
        CHECK(recv_text(pair.server) == "early");
    });
}

// io_native_handle: an option must not cost a stream its standing receive for good.
TEST_CASE("a receive stands again after native_handle(), once recv gets short messages") {
    clean_run([] {
        auto two = stream_pair();
        CHECK(two.second.native_handle() >= 0);
        standing_pair pair{std::move(two)};
        CHECK(standing() == (receives_stand() ? 1 : 0));
        CHECK(pair.server.native_handle() >= 0);
        CHECK(standing() == 0);
        for (int i = 0; i < 10; ++i)
            pair.exchange();
        CHECK(standing() == (receives_stand() ? 1 : 0));
    });
}

TEST_CASE("asking for the native handle leaves a recv that waits to its wait") {
    clean_run([] {
        standing_pair pair;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { CHECK(recv_text(pair.server) == "late"); });
            settle_and_poll();
            CHECK(pair.server.native_handle() >= 0);
            settle_and_poll();
            pair.client.send_all(bytes_of("late"));
        });
    });
}

TEST_CASE("a stream is not released while it holds bytes") {
    clean_run([] {
        if (!receives_stand())
            return;
        standing_pair pair;
        pair.client.send_all(bytes_of("early"));
        settle_and_poll();
        const auto error = error_of([&] { static_cast<void>(pair.server.release()); });
        CHECK(error.code() == std::errc::device_or_resource_busy);
        CHECK_THAT(error.what(), Catch::Contains("5 bytes"));
        CHECK(recv_text(pair.server) == "early");
        const int fd = pair.server.release();
        CHECK(standing() == 0);
        pair.client.send_all(bytes_of("late"));
        std::array<char, 16> buffer;
        CHECK(::recv(fd, buffer.data(), buffer.size(), 0) == 4);
        ::close(fd);
    });
}

TEST_CASE("a reset that a standing receive has taken is told by release") {
    clean_run([] {
        if (!receives_stand())
            return;
        standing_pair pair{tcp_pair()};
        CHECK(standing() == 1);
        {
            const auto gone = std::move(pair.client);
            reset_on_close(gone.native_handle());
        }
        while (standing() != 0)
            creel::this_fiber::yield();
        const auto error = error_of([&] { static_cast<void>(pair.server.release()); });
        CHECK(error.code() == std::errc::connection_reset);
        CHECK_THAT(error.what(), Catch::StartsWith("release of the stream to 127.0.0.1:"));
        ::close(pair.server.release());
    });
}

TEST_CASE("a receive on a nonblocking descriptor waits, single or standing") {
    clean_run([] {
        auto two = stream_pair();
        const int fd = two.second.release();
        REQUIRE(::fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
        standing_pair pair{{std::move(two.first), io::tcp_stream::adopt(fd)}};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { CHECK(recv_text(pair.server) == "late"); });
            settle_and_poll();
            pair.client.send_all(bytes_of("late"));
        });
        for (int i = 0; i < 20; ++i)
            pair.exchange();
    });
}

namespace {

// Acts as a kernel that knows provided buffers, but no standing receive (5.19).
int enter_without_standing(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
                           sigset_t* argument, std::size_t argument_bytes) {
    const io::detail::ring& r = *io::detail::current_ring();
    io_uring_sqe* entries = const_cast<io::detail::ring&>(r).entries();
    for (unsigned i = 0; to_submit != 0 && i < 8; ++i)
        if (entries[i].opcode == IORING_OP_RECV && (entries[i].ioprio & IORING_RECV_MULTISHOT) != 0)
            entries[i].ioprio = 0x8000;
    return io_uring_enter2(ring, to_submit, wait_for, flags, argument, argument_bytes);
}

} // namespace

namespace {

// Acts as a kernel that takes no submissions for a while, and delivers completions.
std::atomic<bool> takes_none{false};
int enter_without_submitting(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
                             sigset_t* argument, std::size_t argument_bytes) {
    if (!takes_none)
        return io_uring_enter2(ring, to_submit, wait_for, flags, argument, argument_bytes);
    io_uring_enter2(ring, 0, 0, flags | IORING_ENTER_GETEVENTS, nullptr, 0);
    return -EBUSY;
}

} // namespace

// The receive's entry names the slot in the ring's file table that the stream had when the entry
// was made.
TEST_CASE(
    "a stream that moves before its standing receive was submitted keeps its slot until then") {
    clean_run([] {
        if (!receives_stand())
            return;
        io::detail::current_ring()->set_enter(&enter_without_submitting);
        auto two = stream_pair();
        for (int i = 0; i < 8; ++i) { // the next receive stands
            two.first.send_all(bytes_of("ping"));
            CHECK(recv_text(two.second) == "ping");
        }
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { scope.run([&] { static_cast<void>(recv_text(two.second)); }); });
            takes_none = true;
            settle_and_poll();
            scope.cancel();
        });
        std::atomic<bool> asked{false};
        std::string received;
        std::thread other{[&, server = std::move(two.second)]() mutable {
            io::run([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] { received = recv_text(server); });
                    creel::this_fiber::yield();
                    asked = true;
                });
                const auto gone = std::move(server);
            });
        }};
        while (!asked)
            creel::this_fiber::yield();
        settle_and_poll();
        takes_none = false;
        two.first.send_all(bytes_of("late"));
        CHECK(recv_text(two.first).empty());
        other.join();
        CHECK(received == "late");
    });
}

TEST_CASE("a kernel that refuses standing receives is not asked again") {
    io::run_options options;
    options.ring_entries = 8;
    clean_run(options, [] {
        io::detail::current_ring()->set_enter(&enter_without_standing);
        standing_pair pair;
        for (int i = 0; i < 30; ++i)
            pair.exchange();
        CHECK(standing() == 0);
        standing_pair second;
        CHECK(standing() == 0);
    });
}

TEST_CASE("two fibers in one standing receive end the process") {
    const auto child = run_in_child([] {
        io::run([] {
            standing_pair pair;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { static_cast<void>(recv_text(pair.server)); });
                n.spawn([&] { static_cast<void>(recv_text(pair.server)); });
            });
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("two fibers receive on one stream at once"));
}

namespace {

// A stream and its raw other end, which threads pass on to one another.
struct parcel {
    io::tcp_stream stream;
    int peer;
    std::size_t sent = 0;
    std::size_t received = 0;

    explicit parcel(const std::array<int, 2>& fds)
        : stream(io::tcp_stream::adopt(fds[0])), peer(fds[1]) {}
    ~parcel() { ::close(peer); }
    parcel(const parcel&) = delete;
    parcel& operator=(const parcel&) = delete;

    static std::byte at(std::size_t i) { return static_cast<std::byte>(i * 7 + i / 251); }

    void send(std::size_t size_bytes) {
        std::vector<std::byte> bytes(size_bytes);
        for (std::size_t i = 0; i < size_bytes; ++i)
            bytes[i] = at(sent + i);
        const ssize_t n = ::send(peer, bytes.data(), size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? static_cast<std::size_t>(n) : 0;
    }
    // False if a received byte differs from the sent one.
    bool receive(std::size_t most_bytes) {
        std::vector<std::byte> bytes(most_bytes);
        const std::size_t n = stream.recv(bytes);
        for (std::size_t i = 0; i < n; ++i)
            if (bytes[i] != at(received + i))
                return false;
        received += n;
        return n > 0;
    }
};

struct post_office {
    std::mutex mutex{};
    std::vector<std::unique_ptr<parcel>> parcels{};

    std::unique_ptr<parcel> take(std::size_t which) {
        const std::lock_guard lock{mutex};
        if (parcels.empty())
            return nullptr;
        std::swap(parcels[which % parcels.size()], parcels.back());
        auto taken = std::move(parcels.back());
        parcels.pop_back();
        return taken;
    }
    void give(std::unique_ptr<parcel> p) {
        const std::lock_guard lock{mutex};
        parcels.push_back(std::move(p));
    }
};

// Half of these actions leave bytes in the ring, or a standing receive.
bool handle(parcel& p, std::minstd_rand& random) {
    bool right = true;
    for (auto rounds = random() % 24; rounds > 0 && right; --rounds) {
        p.send(random() % 16 == 0 ? 3'000 : 1 + random() % 60);
        if (random() % 4 == 0)
            creel::this_fiber::yield();
        if (p.received < p.sent && random() % 8 != 0)
            right = p.receive(1 + random() % 100);
    }
    if (right && p.received == p.sent && random() % 2 == 0) // waits for nothing until the limit
        creel::move_on_after(std::chrono::microseconds{random() % 100},
                             [&] { static_cast<void>(p.receive(8)); });
    if (random() % 16 == 0)
        right = right && p.stream.pending() <= p.sent - p.received;
    return right;
}

} // namespace

TEST_CASE("streams go round between threads and runs and lose no byte", "[stress]") {
    const std::uint32_t seed = printed_seed("streams go round");
    INFO("seed " << seed);
    post_office office;
    for (int i = 0; i < 12; ++i) {
        std::array<int, 2> fds{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
        office.give(std::make_unique<parcel>(fds));
    }
    std::atomic<int> wrong{0};
    std::atomic<std::uint64_t> left{0};
    std::vector<std::thread> threads;
    for (std::uint32_t t = 0; t < 3; ++t)
        threads.emplace_back([&, t] {
            for (std::uint32_t runs = 0; runs < 12; ++runs) {
                io::run([&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        for (std::uint32_t f = 0; f < 3; ++f)
                            n.spawn([&, f] {
                                std::minstd_rand random{seed + t * 1'000 + runs * 10 + f};
                                for (int i = 0; i < 60; ++i) {
                                    auto p = office.take(random());
                                    if (p != nullptr) {
                                        wrong += handle(*p, random) ? 0 : 1;
                                        office.give(std::move(p));
                                    }
                                    creel::this_fiber::yield();
                                }
                            });
                    });
                });
                left += io::statistics().buffers_out + io::statistics().operations_in_flight;
            }
        });
    for (std::thread& t : threads)
        t.join();
    CHECK(wrong == 0);
    CHECK(left == 0);
    io::run([&] {
        for (auto& p : office.parcels) {
            while (p->received < p->sent)
                REQUIRE(p->receive(1'000));
            CHECK(p->stream.pending() == 0);
        }
    });
    CHECK(office.parcels.size() == 12);
}
