#include <creel/io/tcp_listener.hpp>

#include "clean_run.hpp"
#include "support/settle.hpp"

#include <creel/io/detail/ring.hpp>

#include <csignal>
#include <cstddef>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

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

TEST_CASE("connections that nobody has taken are counted, and closed with the listener") {
    clean_run([] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                auto first = io::tcp_stream::connect(listener.local_endpoint());
                auto second = io::tcp_stream::connect(listener.local_endpoint());
                settle_and_poll();
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
        settle_and_poll();
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
        const int answered = clients_answered(10);
        CHECK(answered == 10);
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
        settle_and_poll();
        CHECK(io::statistics().operations_in_flight == 1);
        std::thread{[moved = std::move(listener)] {}}.join();
        settle_and_poll();
        CHECK(io::statistics().operations_in_flight == 0);
        CHECK(error_of([&] { static_cast<void>(io::tcp_stream::connect(where)); }).code() ==
              std::errc::connection_refused);
    });
}
