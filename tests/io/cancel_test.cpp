#include "clean_run.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/readiness.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fcntl.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

std::size_t unread_bytes(int fd) {
    int n = 0;
    if (::ioctl(fd, FIONREAD, &n) < 0)
        throw std::system_error(errno, std::generic_category(), "FIONREAD");
    return static_cast<std::size_t>(n);
}

// A listener whose backlog is full, so that a connect to it waits.
struct full_listener {
    io::tcp_listener listener{io::endpoint::loopback_v4(0), {.backlog = 1}};
    std::vector<int> clients{};

    full_listener() {
        const auto port = static_cast<std::uint16_t>(listener.local_endpoint().port());
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        to.sin_port = htons(port);
        for (int i = 0; i < 8; ++i) {
            const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            static_cast<void>(::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
            clients.push_back(fd);
        }
    }
    ~full_listener() {
        for (const int fd : clients)
            ::close(fd);
    }
};

} // namespace

// While its backlog is full the listener answers no client. After its close the kernel refuses the
// client's repeated attempt.
TEST_CASE("a connect under way that is refused after all is an error that names the address") {
    clean_run([] {
        full_listener full;
        const io::endpoint where = full.listener.local_endpoint();
        std::optional<std::system_error> error;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                error = error_of([&] { const auto never = io::tcp_stream::connect(where); });
            });
            settle_and_poll();
            CHECK_FALSE(error.has_value());
            full.listener.close();
        });
        CHECK(error->code() == std::errc::connection_refused);
        CHECK_THAT(error->what(), Catch::StartsWith("connect to " + where.to_string() + ": "));
    });
}

TEST_CASE("a deadline ends a recv, and the stream goes on afterwards") {
    clean_run([] {
        auto [a, b] = stream_pair();
        bool late = false;
        try {
            creel::fail_after(1ms, [&a = a] { static_cast<void>(recv_text(a)); });
        } catch (const creel::timed_out&) {
            late = true;
        }
        CHECK(late);
        CHECK(io::statistics().cancels_submitted == 1);
        b.send_all(bytes_of("afterwards"));
        CHECK(recv_text(a) == "afterwards");
    });
}

TEST_CASE("a deadline that has passed ends a recv before it begins, and no byte is lost") {
    clean_run([] {
        auto [a, b] = stream_pair();
        b.send_all(bytes_of("kept"));
        settle_and_poll();
        CHECK_FALSE(creel::move_on_after(0ms, [&a = a] { return recv_text(a); }).has_value());
        CHECK(recv_text(a) == "kept");
    });
}

TEST_CASE("a deadline ends send, accept, connect and both waits for readiness") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const std::vector<std::byte> much(std::size_t{8} << 20);
        std::size_t moved = 0;
        CHECK_FALSE(creel::move_on_after(5ms, [&, &a = a] {
            try {
                a.send_all(much);
            } catch (const creel::partial_cancelled& why) {
                moved = why.bytes_moved();
                throw;
            }
        }));
        CHECK(moved > 0);
        CHECK(moved < much.size());
        CHECK(unread_bytes(b.native_handle()) == moved);
        CHECK_FALSE(creel::move_on_after(1ms, [&, &a = a] { static_cast<void>(a.send(much)); }));
        CHECK_FALSE(creel::move_on_after(1ms, [&a = a] { io::wait_writable(a.native_handle()); }));
        CHECK_FALSE(creel::move_on_after(1ms, [&a = a] { io::wait_readable(a.native_handle()); }));

        full_listener full;
        CHECK_FALSE(creel::move_on_after(5ms, [&] {
            const auto never = io::tcp_stream::connect(full.listener.local_endpoint());
        }));

        io::tcp_listener idle{io::endpoint::loopback_v4(0)};
        CHECK_FALSE(creel::move_on_after(1ms, [&] { const auto never = idle.accept(); }));
    });
}

TEST_CASE("a cancelled send_all and recv_exact tell how many bytes have moved") {
    clean_run([] {
        auto [a, b] = stream_pair();
        std::array<std::byte, 10> buffer{};
        std::optional<std::size_t> moved;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                try {
                    a.recv_exact(buffer);
                } catch (const creel::partial_cancelled& why) {
                    moved = why.bytes_moved();
                    throw;
                }
            });
            b.send_all(bytes_of("four"));
            settle_and_poll();
            n.cancel();
        });
        CHECK(moved == 4);
        CHECK(text_of(std::span{buffer}.first(4)) == "four");
        // The next recv gets all bytes.
        b.send_all(bytes_of("more"));
        CHECK(recv_text(a) == "more");
    });
}

TEST_CASE("cancelling a nursery ends all that its fibers wait for") {
    clean_run([] {
        std::vector<std::pair<io::tcp_stream, io::tcp_stream>> pairs;
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        constexpr int fibers = under_tsan ? 200 : 1'000;
        for (int i = 0; i < fibers; ++i)
            pairs.push_back(stream_pair());
        int ended = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (auto& [a, b] : pairs)
                n.spawn([&ended, &a = a] {
                    try {
                        static_cast<void>(recv_text(a));
                    } catch (const creel::cancelled&) {
                        ++ended;
                        throw;
                    }
                });
            n.spawn([&] { const auto never = listener.accept(); });
            settle_and_poll();
            n.cancel();
        });
        CHECK(ended == fibers);
        CHECK(io::statistics().cancels_submitted == fibers + 1); // and the accept
    });
}

TEST_CASE("a fiber in a cancelled scope that is cancelled before its recv was submitted") {
    clean_run([] {
        auto [a, b] = stream_pair();
        settle_and_poll();
        const std::uint64_t enters = io::statistics().enters;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] { static_cast<void>(recv_text(a)); });
            creel::this_fiber::yield(); // it has parked, but the ring has not entered the kernel
            CHECK(io::statistics().enters == enters);
            n.cancel();
        });
        b.send_all(bytes_of("kept"));
        CHECK(recv_text(a) == "kept");
    });
}

// A byte comes and the receiver is cancelled, in each order. A `cancelled` has lost no byte, and a
// success has exactly the bytes that were sent.
TEST_CASE("a recv that races with its cancel loses no byte in any order") {
    constexpr int rounds = 500;
    enum order { data_first, cancel_first, data_seen_first, cancel_before_submission };
    for (const order how : {data_first, cancel_first, data_seen_first, cancel_before_submission}) {
        INFO("order " << how);
        clean_run([&] {
            int succeeded = 0;
            int cancelled = 0;
            int wrong = 0;
            auto [a, b] = stream_pair();
            for (int i = 0; i < rounds; ++i) {
                const std::string sent = std::to_string(i);
                std::optional<std::string> got;
                creel::with_nursery([&, &a = a, &b = b](creel::nursery& n) {
                    creel::cancel_scope scope;
                    n.spawn([&] { got = scope.run([&] { return recv_text(a); }); });
                    creel::this_fiber::yield();
                    if (how != cancel_before_submission)
                        settle_and_poll();
                    const auto write = [&] {
                        const auto n_written = ::write(b.native_handle(), sent.data(), sent.size());
                        wrong += n_written == static_cast<ssize_t>(sent.size()) ? 0 : 1;
                    };
                    if (how == cancel_first || how == cancel_before_submission)
                        scope.cancel();
                    write();
                    if (how == data_seen_first)
                        settle_and_poll();
                    if (how == data_first || how == data_seen_first)
                        scope.cancel();
                    while (n.children() != 0)
                        creel::this_fiber::yield();
                });
                if (got) {
                    ++succeeded;
                } else {
                    ++cancelled;
                    got = recv_text(a);
                }
                wrong += *got == sent ? 0 : 1;
            }
            CHECK(wrong == 0);
            CHECK(succeeded + cancelled == rounds);
            if (how == data_seen_first)
                CHECK(succeeded == rounds);
        });
    }
}

TEST_CASE("an accept that races with its cancel loses no connection") {
    constexpr int rounds = 200;
    for (const bool cancel_first : {true, false}) {
        INFO("cancel first: " << cancel_first);
        clean_run([&] {
            io::tcp_listener listener{io::endpoint::loopback_v4(0)};
            int taken = 0;
            for (int i = 0; i < rounds; ++i) {
                std::optional<io::tcp_stream> got;
                std::optional<io::tcp_stream> client;
                creel::with_nursery([&](creel::nursery& n) {
                    creel::cancel_scope scope;
                    n.spawn([&] { got = scope.run([&] { return listener.accept(); }); });
                    creel::this_fiber::yield();
                    if (cancel_first)
                        scope.cancel();
                    client = io::tcp_stream::connect(listener.local_endpoint());
                    if (!cancel_first)
                        scope.cancel();
                });
                if (!got)
                    got = listener.accept();
                got->send_all(bytes_of("x"));
                taken += recv_text(*client) == "x" ? 1 : 0;
            }
            CHECK(taken == rounds);
        });
    }
}

TEST_CASE("a connection goes to the next fiber when the first in line was cancelled") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        std::optional<io::tcp_stream> first;
        std::optional<io::tcp_stream> second;
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope scope;
            n.spawn([&] { first = scope.run([&] { return listener.accept(); }); });
            n.spawn([&] { second = listener.accept(); });
            settle_and_poll();
            scope.cancel();
            const auto client = io::tcp_stream::connect(listener.local_endpoint());
        });
        CHECK_FALSE(first.has_value());
        CHECK(second.has_value());
    });
}

// If an operation's descriptor is ready at the submission, the kernel does not find the operation
// before it has tried it. A cancel that was submitted together with such an operation was lost.
TEST_CASE(
    "bug: a cancel of a recv that is submitted with it ends it, though another took the data") {
    clean_run([] {
        auto [a, b] = stream_pair();
        auto copy = io::tcp_stream::adopt(::fcntl(a.native_handle(), F_DUPFD_CLOEXEC, 0));
        b.send_all(bytes_of("x"));
        bool cut = false;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            creel::cancel_scope scope;
            n.spawn([&] { CHECK(recv_text(a) == "x"); });
            n.spawn([&] { cut = !scope.run([&] { static_cast<void>(recv_text(copy)); }); });
            n.spawn([&] { scope.cancel(); });
            settle_and_poll();
        });
        CHECK(cut);
    });
}

TEST_CASE("a buffer on the stack is not written to after its recv was cancelled") {
    clean_run([] {
        auto [a, b] = stream_pair();
        for (int i = 0; i < 100; ++i) {
            creel::with_nursery([&, &a = a](creel::nursery& n) {
                n.spawn([&] {
                    std::array<std::byte, 512> doomed{};
                    static_cast<void>(a.recv(doomed));
                });
                settle_and_poll();
                n.cancel();
            });
            // The same stack again: a late write of the kernel would show here.
            creel::with_nursery([&, &a = a](creel::nursery& n) {
                n.spawn([&] {
                    std::array<std::byte, 512> canary;
                    canary.fill(std::byte{0x5a});
                    static_cast<void>(::write(b.native_handle(), "overwrite", 9));
                    settle_and_poll();
                    for (const std::byte each : canary)
                        if (each != std::byte{0x5a})
                            throw std::runtime_error("overwritten");
                    CHECK(recv_text(a) == "overwrite");
                });
            });
        }
    });
}

TEST_CASE("cleanup that waits in a destructor works while cancelled unwinds") {
    clean_run([] {
        struct farewell {
            io::tcp_stream& to;
            ~farewell() { to.send_all(bytes_of("bye")); }
        };
        auto [a, b] = stream_pair();
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                const farewell at_end{a};
                static_cast<void>(recv_text(a));
            });
            settle_and_poll();
            n.cancel();
        });
        CHECK(recv_text(b) == "bye");
    });
}

TEST_CASE("random deadlines over random traffic leave every byte in order", "[stress]") {
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    clean_run([&] {
        std::mt19937 random{seed};
        constexpr int streams = 50;
        constexpr std::uint32_t messages = 400;
        int wrong = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < streams; ++i)
                n.spawn([&] {
                    auto [a, b] = stream_pair();
                    creel::with_nursery([&, &a = a, &b = b](creel::nursery& both) {
                        both.spawn([&] {
                            for (std::uint32_t k = 0; k < messages; ++k) {
                                b.send_all(std::as_bytes(std::span{&k, 1}));
                                if (random() % 4 == 0)
                                    creel::this_fiber::sleep_for(
                                        std::chrono::microseconds{random() % 50});
                            }
                        });
                        std::vector<std::byte> got;
                        while (got.size() < messages * sizeof(std::uint32_t)) {
                            std::array<std::byte, 64> buffer;
                            const auto count =
                                creel::move_on_after(std::chrono::microseconds{random() % 50},
                                                     [&] { return a.recv(buffer); });
                            if (count)
                                got.insert(got.end(), buffer.begin(),
                                           buffer.begin() + static_cast<std::ptrdiff_t>(*count));
                            else
                                creel::this_fiber::yield();
                        }
                        for (std::uint32_t k = 0; k < messages; ++k) {
                            std::uint32_t value = 0;
                            std::memcpy(&value, got.data() + k * sizeof value, sizeof value);
                            wrong += value == k ? 0 : 1;
                        }
                    });
                });
        });
        CHECK(wrong == 0);
    });
}
