#include <creel/io/tcp_listener.hpp>

#include "clean_run.hpp"
#include "raw_socket.hpp"
#include "support/open_descriptors.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>

#include <sys/resource.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

TEST_CASE("an address in use is an error that names the address") {
    clean_run([] {
        const io::tcp_listener first{io::endpoint::loopback_v4(0)};
        const io::endpoint taken = first.local_endpoint();
        const auto error = error_of([&] { const io::tcp_listener second{taken}; });
        CHECK(error.code() == std::errc::address_in_use);
        CHECK_THAT(error.what(), Catch::StartsWith("listen on " + taken.to_string() + ": "));
    });
}

TEST_CASE("a listener and a stream that are moved onto themselves stay open") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        auto& same_listener = listener;
        listener = std::move(same_listener);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                auto client = io::tcp_stream::connect(listener.local_endpoint());
                auto& same_client = client;
                client = std::move(same_client);
                client.send_all(std::as_bytes(std::span{"x", 1}));
            });
            auto server = listener.accept();
            CHECK(recv_text(server) == "x");
        });
    });
}

TEST_CASE("two listeners share a port if both ask for it") {
    clean_run([] {
        io::tcp_listener first{io::endpoint::loopback_v4(0), {.reuse_port = true}};
        io::tcp_listener second{first.local_endpoint(), {.reuse_port = true}};
        CHECK(second.local_endpoint() == first.local_endpoint());
    });
}

// io_backlog, io_backlog2: a multishot accept took the whole backlog, and every descriptor with it.
TEST_CASE("an accept takes one connection, and the others wait in the backlog") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        std::vector<io::tcp_stream> clients;
        for (int i = 0; i < 100; ++i)
            clients.push_back(io::tcp_stream::connect(listener.local_endpoint()));
        const auto before = open_descriptors().size();
        const auto first = listener.accept();
        settle_and_poll();
        CHECK(open_descriptors().size() == before + 1);
        CHECK(io::statistics().late_descriptors == 0);
        for (int i = 1; i < 100; ++i) {
            auto peer = listener.accept();
            peer.send_all(bytes_of("x"));
        }
        int greeted = 0;
        for (std::size_t i = 1; i < clients.size(); ++i)
            greeted += recv_text(clients[i]) == "x" ? 1 : 0;
        CHECK(greeted == 99);
    });
}

TEST_CASE("a listener outlives its run, and the clients in its backlog are served by the next") {
    std::optional<io::tcp_listener> listener{io::endpoint::loopback_v4(0)};
    std::vector<io::tcp_stream> clients;
    io::run([&] {
        for (int i = 0; i < 5; ++i)
            clients.push_back(io::tcp_stream::connect(listener->local_endpoint()));
        const auto first = listener->accept();
        CHECK_FALSE(creel::move_on_after(0s, [&] { static_cast<void>(listener->accept()); }));
        while (clients.size() > 4)
            clients.erase(clients.begin());
        for (io::tcp_stream& c : clients)
            c.send_all(bytes_of("hello"));
    });
    io::run([&] {
        for (int i = 0; i < 4; ++i) {
            auto peer = listener->accept();
            CHECK(recv_text(peer) == "hello");
        }
        clients.clear();
        listener.reset();
    });
}

// The kernel wakes one accept for a connection. Here that accept is cancelled before it takes the
// connection.
TEST_CASE("a connection that woke an accept which was cancelled goes to the next that waits") {
    clean_run([] {
        for (int round = 0; round < 20; ++round) {
            io::tcp_listener listener{io::endpoint::loopback_v4(0)};
            const auto port = static_cast<std::uint16_t>(listener.local_endpoint().port());
            int served = 0;
            creel::with_nursery([&](creel::nursery& n) {
                creel::cancel_scope first;
                n.spawn([&] {
                    served += first.run([&] { const auto peer = listener.accept(); }) ? 1 : 0;
                });
                n.spawn([&] {
                    const auto peer = listener.accept();
                    ++served;
                    n.cancel();
                });
                settle_and_poll();
                const raw_socket client = raw_client(port);
                first.cancel();
                while (served == 0)
                    creel::this_fiber::yield();
                n.cancel();
            });
            CHECK(served == 1);
        }
    });
}

TEST_CASE("bug: two connections that woke accepts which were cancelled go to two that wait") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        const auto port = static_cast<std::uint16_t>(listener.local_endpoint().port());
        int served = 0;
        const auto serve_one = [&] {
            const auto peer = listener.accept();
            ++served;
        };
        creel::cancel_scope first_two;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                first_two.run([&] {
                    creel::with_nursery([&](creel::nursery& two) {
                        two.spawn(serve_one);
                        two.spawn(serve_one);
                    });
                });
            });
            settle_and_poll();
            n.spawn(serve_one);
            n.spawn(serve_one);
            settle_and_poll();
            const raw_socket one = raw_client(port);
            const raw_socket another = raw_client(port);
            first_two.cancel();
            while (served != 2)
                creel::this_fiber::yield();
            n.cancel();
        });
        CHECK(served == 2);
    });
}

TEST_CASE("a nonblocking listener waits like any other") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        CHECK(::fcntl(listener.native_handle(), F_SETFL, O_NONBLOCK) == 0);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { const auto peer = listener.accept(); });
            settle_and_poll();
            const auto client = io::tcp_stream::connect(listener.local_endpoint());
        });
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
        // UBSan needs descriptors when it first checks a type, so all calls are made once before.
        connection earlier;
        earlier.listener.close();
        CHECK(error_of([&] { const auto never = earlier.listener.accept(); }).code() ==
              std::errc::bad_file_descriptor);
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        rlimit before{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
        auto client = io::tcp_stream::connect(listener.local_endpoint());
        // The kernel gives out the lowest free number, so no number below the client's is free.
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

// io_rebind: a listener's destructor left its port bound until the next poll.
TEST_CASE("the port of a listener is free when its destructor returns") {
    clean_run([] {
        std::optional<io::tcp_listener> listener{io::endpoint::loopback_v4(0)};
        const io::endpoint where = listener->local_endpoint();
        const auto bound_again = [&] {
            listener.reset();
            listener.emplace(where, io::listen_options{.reuse_address = false});
            return true;
        };
        CHECK(bound_again());
        CHECK_FALSE(creel::move_on_after(0s, [&] { static_cast<void>(listener->accept()); }));
        CHECK(bound_again());
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { const auto never = listener->accept(); });
            settle_and_poll();
            n.cancel();
        });
        CHECK(bound_again());
    });
}

// io_foreign2: it wrote into the ring of the thread that had accepted.
TEST_CASE("a listener that another thread has used is closed on this one") {
    const bool dropped = GENERATE(false, true);
    std::optional<io::tcp_listener> listener{io::endpoint::loopback_v4(0)};
    const io::endpoint where = listener->local_endpoint();
    const auto accept_one = [&] {
        const auto client = io::tcp_stream::connect(where);
        const auto peer = listener->accept();
    };
    std::atomic<int> step{0};
    std::thread other{[&] {
        io::run([&] {
            accept_one();
            step = 1;
            step.notify_one();
            while (step != 2) {
                const io::tcp_listener another{io::endpoint::loopback_v4(0)};
                creel::this_fiber::yield();
            }
        });
    }};
    step.wait(0);
    io::run([&] {
        accept_one();
        if (dropped)
            listener.reset();
        else
            listener->close();
        CHECK(error_of([&] { static_cast<void>(io::tcp_stream::connect(where)); }).code() ==
              std::errc::connection_refused);
    });
    step = 2;
    other.join();
}
