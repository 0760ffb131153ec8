// Success beats cancel, with a real kernel: in whatever order an operation completes and is
// cancelled, `cancelled` means that the operation did not happen, and nothing is lost.
#include "bell.hpp"
#include "clean_run.hpp"
#include "raw_socket.hpp"
#include "support/seed.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/readiness.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <random>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t batch = 50;

// A receive buffer with guards before and behind it, for words that are never `untouched`.
struct guarded_words {
    static constexpr std::uint32_t untouched = ~std::uint32_t{0};
    static constexpr std::size_t guards = 16;
    static constexpr std::size_t size = 16;

    std::array<std::uint32_t, guards + size + guards> all;

    guarded_words() { all.fill(untouched); }
    std::span<std::uint32_t> words() { return std::span{all}.subspan(guards, size); }

    // How many words behind the first `received` words of the buffer have been written to.
    [[nodiscard]] std::size_t touched_from(std::size_t received) const {
        std::size_t touched = 0;
        for (std::size_t i = 0; i < all.size(); ++i)
            touched += (i < guards || i >= guards + received) && all[i] != untouched;
        return touched;
    }
};

// A stream to which the peer writes the words 0, 1, 2 ...: each must come once and in order.
struct counting_pair {
    std::pair<io::tcp_stream, io::tcp_stream> streams = stream_pair();
    io::tcp_stream& ours = streams.first;
    std::uint32_t sent = 0;
    std::uint32_t got = 0;
    std::size_t wrong = 0;

    void write() {
        const std::uint32_t word = sent++;
        wrong += ::write(streams.second.native_handle(), &word, sizeof word) != sizeof word;
    }
    void receive_into(guarded_words& array) {
        const std::size_t bytes = ours.recv(std::as_writable_bytes(array.words()));
        const std::size_t count = bytes / sizeof(std::uint32_t);
        wrong += bytes % sizeof(std::uint32_t) != 0;
        for (const std::uint32_t word : array.words().first(count))
            wrong += word != got++;
        wrong += array.touched_from(count);
    }
    std::size_t receive_rest() {
        const std::uint32_t before = got;
        while (got != sent) {
            guarded_words array;
            receive_into(array);
        }
        return got - before;
    }
};

void yield_times(std::uint64_t count) {
    for (; count > 0; --count)
        creel::this_fiber::yield();
}

} // namespace

TEST_CASE("100,000 receives into stack arrays are cancelled while the peer writes") {
    const auto seed = printed_seed("receives cancelled");
    INFO("seed " << seed);
    clean_run([&] {
        constexpr std::size_t receives = under_tsan ? 20'000 : 100'000;
        constexpr std::size_t rounds = receives / batch;
        std::mt19937 random{seed};
        std::deque<counting_pair> connections(batch);
        // Half of the streams receive one by one, straight into the array; the others have a
        // standing receive.
        for (std::size_t i = 0; i < batch; i += 2)
            static_cast<void>(connections[i].ours.native_handle());
        std::size_t succeeded = 0;
        std::size_t was_cancelled = 0;
        std::size_t outlasted = 0;
        for (std::size_t round = 0; round < rounds; ++round) {
            std::deque<creel::cancel_scope> scopes(batch);
            bool all_written = false;
            const auto receive = [&](counting_pair& c) {
                guarded_words array;
                std::optional<creel::cancelled> why;
                try {
                    c.receive_into(array);
                } catch (const creel::cancelled& thrown) {
                    why = thrown;
                }
                if (!why)
                    return;
                if (random() % 2 == 0) // the bytes of a cancelled receive must not come any more
                    creel::shield([&] {
                        while (!all_written)
                            creel::this_fiber::yield();
                        outlasted += c.receive_rest();
                    });
                c.wrong += array.touched_from(0);
                throw *why;
            };
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < batch; ++i)
                    n.spawn([&, i] {
                        (scopes[i].run([&] { receive(connections[i]); }) ? succeeded
                                                                         : was_cancelled)++;
                    });
                yield_times(random() % 3); // not started; parked; perhaps submitted
                for (std::size_t i = 0; i < batch; ++i) {
                    const auto how = random() % 4;
                    if (how % 2 == 0)
                        connections[i].write();
                    if (how == 1 && random() % 8 == 0)
                        creel::this_fiber::yield();
                    scopes[i].cancel();
                    if (how == 1)
                        connections[i].write();
                }
                all_written = true;
            });
        }
        std::size_t wrong = 0;
        for (counting_pair& c : connections) {
            c.receive_rest();
            wrong += c.wrong;
        }
        CHECK(wrong == 0);
        CHECK(succeeded > 0);
        CHECK(was_cancelled > 0);
        CHECK(outlasted > 0);
        CHECK(succeeded + was_cancelled == receives);
    });
}

TEST_CASE("10,000 accepts are cancelled while peers connect: no connection and no descriptor is "
          "lost") {
    const auto seed = printed_seed("accepts cancelled");
    INFO("seed " << seed);
    clean_run([&] {
        std::mt19937 random{seed};
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        const auto port = static_cast<std::uint16_t>(listener.local_endpoint().port());
        std::size_t accepted = 0;
        std::size_t was_cancelled = 0;
        for (std::size_t round = 0; round < 10'000 / batch; ++round) {
            std::deque<creel::cancel_scope> scopes(batch);
            std::vector<io::tcp_stream> streams;
            std::vector<raw_socket> clients;
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < batch; ++i)
                    n.spawn([&, i] {
                        auto stream = scopes[i].run([&] { return listener.accept(); });
                        if (stream)
                            streams.push_back(std::move(*stream));
                        else
                            ++was_cancelled;
                    });
                yield_times(random() % 3);
                for (std::size_t i = 0; i < batch; ++i) {
                    const bool cancel_first = random() % 2 == 0;
                    if (cancel_first)
                        scopes[i].cancel();
                    clients.push_back(raw_client(port));
                    if (random() % 32 == 0)
                        settle_and_poll();
                    scopes[i].cancel();
                }
            });
            while (streams.size() < batch) // the clients are still connected
                streams.push_back(listener.accept());
            accepted += streams.size();
        }
        CHECK(accepted == 10'000);
        CHECK(was_cancelled > 0);
        CHECK(was_cancelled < 10'000);
    });
}

TEST_CASE("10,000 connects are cancelled while peers accept: no descriptor is lost") {
    const auto seed = printed_seed("connects cancelled");
    INFO("seed " << seed);
    clean_run([&] {
        std::mt19937 random{seed};
        const raw_socket peer{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
        sockaddr_in address = loopback(0);
        socklen_t length = sizeof address;
        auto* any = reinterpret_cast<sockaddr*>(&address);
        if (::bind(peer.get(), any, length) < 0 || ::listen(peer.get(), 1024) < 0 ||
            ::getsockname(peer.get(), any, &length) < 0)
            throw std::system_error(errno, std::generic_category(), "a raw listener");
        const auto to = io::endpoint::loopback_v4(ntohs(address.sin_port));
        std::size_t connected = 0;
        std::size_t was_cancelled = 0;
        for (std::size_t round = 0; round < 10'000 / batch; ++round) {
            std::deque<creel::cancel_scope> scopes(batch);
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < batch; ++i)
                    n.spawn([&, i] {
                        const auto stream =
                            scopes[i].run([&] { return io::tcp_stream::connect(to); });
                        ++(stream ? connected : was_cancelled);
                        if (stream)
                            reset_on_close(stream->native_handle());
                    });
                yield_times(random() % 3);
                for (creel::cancel_scope& s : scopes) {
                    if (random() % 8 == 0)
                        yield_times(random() % 100);
                    s.cancel();
                }
            });
            for (int fd = 0; (fd = ::accept4(peer.get(), nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
                reset_on_close(fd);
                ::close(fd);
            }
        }
        CHECK(connected + was_cancelled == 10'000);
        CHECK(connected > 0);
        CHECK(was_cancelled > 0);
    });
}

TEST_CASE("a send that races with its cancel has sent what it says, or nothing") {
    for (const bool cancel_first : {true, false}) {
        INFO("cancel first: " << cancel_first);
        clean_run([&] {
            auto [a, b] = stream_pair();
            const std::vector<std::byte> much(std::size_t{4} << 20);
            std::vector<std::byte> room(std::size_t{1} << 20);
            std::size_t sent = 0;
            std::size_t read = 0;
            std::size_t was_cancelled = 0;
            for (int i = 0; i < 200; ++i) {
                creel::cancel_scope scope;
                creel::with_nursery([&, &a = a, &b = b](creel::nursery& n) {
                    n.spawn([&] {
                        const auto count = scope.run([&] {
                            for (;;) // until there is no room and it parks
                                sent += a.send(much);
                        });
                        was_cancelled += !count;
                    });
                    settle_and_poll();
                    if (cancel_first)
                        scope.cancel();
                    const auto n_read =
                        ::recv(b.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
                    read += n_read > 0 ? static_cast<std::size_t>(n_read) : 0;
                    scope.cancel();
                });
            }
            for (;;) {
                const auto n_read =
                    ::recv(b.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
                if (n_read <= 0)
                    break;
                read += static_cast<std::size_t>(n_read);
            }
            CHECK(was_cancelled == 200);
            CHECK(read == sent);
        });
    }
}

TEST_CASE("a wait for readiness that races with its cancel ends, and the data is there") {
    clean_run([&] {
        auto [a, b] = stream_pair();
        int wrong = 0;
        for (int i = 0; i < 400; ++i) {
            creel::cancel_scope scope;
            creel::with_nursery([&, &a = a, &b = b](creel::nursery& n) {
                n.spawn([&] { scope.run([&] { io::wait_readable(a.native_handle()); }); });
                creel::this_fiber::yield();
                if (i % 2 == 0)
                    scope.cancel();
                wrong += ::write(b.native_handle(), "x", 1) != 1;
                if (i % 4 == 1)
                    settle_and_poll();
                scope.cancel();
            });
            wrong += recv_text(a) != "x";
        }
        CHECK(wrong == 0);
    });
}

TEST_CASE("a connect that is cancelled in the poll in which it completes has connected") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        const bell cancel;
        for (int i = 0; i < 20; ++i) {
            std::optional<io::tcp_stream> stream;
            creel::with_nursery([&](creel::nursery& n) {
                creel::cancel_scope scope;
                cancel.ring(); // it completes as soon as it is submitted
                n.spawn([&] {
                    cancel.wait();
                    scope.cancel();
                });
                n.spawn([&] {
                    stream = scope.run(
                        [&] { return io::tcp_stream::connect(listener.local_endpoint()); });
                });
                while (n.children() != 0)
                    creel::this_fiber::yield();
            });
            REQUIRE(stream.has_value());
            auto peer = listener.accept();
            peer.send_all(bytes_of("x"));
            CHECK(recv_text(*stream) == "x");
        }
    });
}
