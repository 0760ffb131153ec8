#include "clean_run.hpp"
#include "support/settle.hpp"

#include <creel/io/tcp_listener.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <vector>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

// The kernel holds little of what one end sends and the other does not receive. So `much` makes a
// sender wait, and needs no 32 MiB, as it did with the sizes to which the kernel's buffers grow: to
// fill those took a test 17 s, and 76 s under TSan.
constexpr io::stream_options small_buffers{.receive_buffer_bytes = 65'536,
                                           .send_buffer_bytes = 65'536};
const std::vector<std::byte> much(std::size_t{1} << 20);

struct pair {
    io::tcp_listener listener{io::endpoint::loopback_v4(0), {.accepted = small_buffers}};
    std::optional<io::tcp_stream> peer{}; // the end that sends the reset
    std::optional<io::tcp_stream> stream{};

    pair() {
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { stream = listener.accept(); });
            peer = io::tcp_stream::connect(listener.local_endpoint(), small_buffers);
        });
        name = peer->local_endpoint().to_string();
        reset_on_close(peer->native_handle());
    }

    std::string name;
};

} // namespace

TEST_CASE("a reset while recv waits is an error that names the peer") {
    clean_run([] {
        pair p;
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { error = error_of([&] { static_cast<void>(recv_text(*p.stream)); }); });
            settle_and_poll();
            p.peer->close();
        });
        CHECK(error->code() == std::errc::connection_reset);
        CHECK_THAT(error->what(), Catch::StartsWith("recv from " + p.name + ": "));
        CHECK(p.stream->remote_endpoint().to_string() == p.name);
    });
}

TEST_CASE("a reset before recv is an error") {
    clean_run([] {
        pair p;
        p.peer->close();
        settle_and_poll();
        const auto error = error_of([&] { static_cast<void>(recv_text(*p.stream)); });
        CHECK(error.code() == std::errc::connection_reset);
    });
}

TEST_CASE("a reset while send waits is an error that names the peer") {
    clean_run([] {
        pair p;
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { error = error_of([&] { p.stream->send_all(much); }); });
            settle_and_poll();
            p.peer->close();
        });
        CHECK((error->code() == std::errc::connection_reset ||
               error->code() == std::errc::broken_pipe));
        CHECK_THAT(error->what(), Catch::StartsWith("send to " + p.name + ": "));
    });
}

TEST_CASE("a send after a reset is an error and no signal") {
    clean_run([] {
        pair p;
        p.peer->close();
        settle_and_poll();
        std::vector<std::error_code> codes;
        for (int i = 0; i < 2; ++i)
            codes.push_back(error_of([&] { p.stream->send_all(bytes_of("x")); }).code());
        CHECK((codes[0] == std::errc::connection_reset || codes[0] == std::errc::broken_pipe));
        CHECK(codes[1] == std::errc::broken_pipe);
    });
}

TEST_CASE("a reset in the middle of recv_exact is an error") {
    clean_run([] {
        pair p;
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                std::array<std::byte, 100> buffer;
                error = error_of([&] { p.stream->recv_exact(buffer); });
            });
            p.peer->send_all(bytes_of("a part"));
            settle_and_poll();
            p.peer->close();
        });
        CHECK(error->code() == std::errc::connection_reset);
    });
}

TEST_CASE("shutdown_send, options and addresses after a reset are errors or work, no worse") {
    clean_run([] {
        pair p;
        p.peer->close();
        settle_and_poll();
        const auto error = error_of([&] { p.stream->shutdown_send(); });
        CHECK(error.code() == std::errc::not_connected);
        CHECK(p.stream->remote_endpoint().to_string() == p.name);
        p.stream->close();
    });
}

TEST_CASE("a client that resets before it is accepted harms no other") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                {
                    const auto early = io::tcp_stream::connect(listener.local_endpoint());
                    reset_on_close(early.native_handle());
                }
                auto well = io::tcp_stream::connect(listener.local_endpoint());
                well.send_all(bytes_of("well"));
                CHECK(recv_text(well).empty());
            });
            int served = 0;
            while (served == 0) {
                auto peer = listener.accept();
                try {
                    served += recv_text(peer) == "well" ? 1 : 0;
                } catch (const std::system_error& error) {
                    CHECK(error.code() == std::errc::connection_reset);
                }
            }
        });
    });
}

TEST_CASE("2,000 clients that send half a request and vanish leave nothing behind", "[stress]") {
    constexpr int clients = under_tsan ? 300 : 2'000;
    for (const bool reset : {false, true}) {
        INFO("by reset: " << reset);
        clean_run([&] {
            io::tcp_listener listener{io::endpoint::loopback_v4(0)};
            int ended = 0;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    creel::with_nursery([&](creel::nursery& served) {
                        for (int i = 0; i < clients; ++i)
                            served.spawn([&, peer = listener.accept()]() mutable {
                                try {
                                    while (!recv_text(peer).empty())
                                        ;
                                    ++ended;
                                } catch (const std::system_error&) {
                                    ++ended;
                                }
                            });
                    });
                });
                for (int i = 0; i < clients; ++i)
                    n.spawn([&] {
                        auto client = io::tcp_stream::connect(listener.local_endpoint());
                        client.send_all(bytes_of("GET / HTT"));
                        if (reset)
                            reset_on_close(client.native_handle());
                    });
            });
            CHECK(ended == clients);
        });
    }
}

// io_reset: the kernel reports a reset once, to the first operation. When that was a send, recv
// reported a plain end, and its caller took a stream that was cut short for a complete one.
TEST_CASE("a reset while one fiber receives and another sends is told to the one that receives") {
    const bool standing = GENERATE(false, true);
    clean_run([&] {
        for (int round = 0; round < 20; ++round) {
            pair p;
            for (int i = 0; i < (standing ? 10 : 0); ++i) {
                p.peer->send_all(bytes_of("x"));
                CHECK(recv_text(*p.stream) == "x");
            }
            std::optional<std::system_error> received;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { static_cast<void>(error_of([&] { p.stream->send_all(much); })); });
                n.spawn(
                    [&] { received = error_of([&] { static_cast<void>(recv_text(*p.stream)); }); });
                settle_and_poll();
                p.peer->close();
            });
            CHECK(received->code() == std::errc::connection_reset);
            // The error stays.
            CHECK(error_of([&] { static_cast<void>(recv_text(*p.stream)); }).code() ==
                  std::errc::connection_reset);
        }
    });
}
