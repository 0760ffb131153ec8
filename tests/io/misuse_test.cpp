// Mistakes of a program that are caught: each ends the process with a message.
#include "clean_run.hpp"
#include "support/child_process.hpp"
#include "support/settle.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <csignal>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

namespace io = creel::io;
using namespace creel::test;

namespace {

void ends_with(const char* message, const std::function<void()>& body) {
    const auto child = run_in_child([&] { io::run(body); });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains(message));
}

// Runs f on another thread while this thread's ring goes on; f ends the process.
void meanwhile(const std::function<void()>& f) {
    std::thread{f}.detach();
    for (;;)
        creel::this_fiber::yield();
}

// Runs wait() in a fiber of this thread; when that fiber waits, runs f on another ring.
void meet(const std::function<void()>& wait, const std::function<void()>& f) {
    creel::with_nursery([&](creel::nursery& n) {
        n.spawn([&] { wait(); });
        settle_and_poll();
        meanwhile([&] { io::run({.on_signal = io::ignore}, f); });
    });
}

} // namespace

TEST_CASE("two fibers that send on one stream are a bug that is caught") {
    ends_with("two fibers send on one stream at once", [] {
        auto [a, b] = stream_pair();
        const std::vector<std::byte> much(std::size_t{8} << 20);
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&] { a.send_all(much); });
        });
    });
}

TEST_CASE(
    "two fibers that receive are named as such when native_handle() has stopped the receive") {
    ends_with("two fibers receive on one stream at once", [] {
        auto [a, b] = stream_pair();
        for (int i = 0; i < 10; ++i) { // after eight the receive stands
            b.send_all(bytes_of("x"));
            CHECK(recv_text(a) == "x");
        }
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] { static_cast<void>(recv_text(a)); });
            settle_and_poll();
            static_cast<void>(a.native_handle()); // tells the first fiber to look again
            static_cast<void>(recv_text(a));
        });
    });
}

TEST_CASE("two threads in one stream are a bug that is caught, also where the receive stands") {
    const int messages = GENERATE(1, 10); // after eight the receive stands
    ends_with("two threads use one stream", [&] {
        auto [a, b] = stream_pair();
        for (int i = 0; i < messages; ++i) {
            b.send_all(bytes_of("x"));
            CHECK(recv_text(a) == "x");
        }
        meet([&a = a] { static_cast<void>(recv_text(a)); },
             [&a = a] { a.send_all(bytes_of("y")); });
    });
}

TEST_CASE("two threads that accept on one listener are a bug that is caught") {
    ends_with("two threads accept on one listener", [] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        const auto accept = [&] { const auto never = listener.accept(); };
        meet(accept, accept);
    });
}

TEST_CASE("the release of a stream during a call is a bug that is caught") {
    ends_with("release of a stream while a call on it waits", [] {
        auto [a, b] = stream_pair();
        creel::with_nursery([&a = a](creel::nursery& n) {
            n.spawn([&] { static_cast<void>(recv_text(a)); });
            settle_and_poll();
            static_cast<void>(a.release());
        });
    });
}

TEST_CASE("calls that need a ring are caught on a thread without one while the owner's runs") {
    const auto call = GENERATE(
        std::function<void(io::tcp_stream&)>{
            [](io::tcp_stream& s) { static_cast<void>(s.native_handle()); }},
        [](io::tcp_stream& s) { static_cast<void>(s.release()); },
        [](io::tcp_stream& s) { static_cast<void>(s.pending()); },
        [](io::tcp_stream& s) { s.close(); });
    ends_with("on a thread without a ring", [&] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("x"));
        meanwhile([&, &a = a] { call(a); });
    });
}

TEST_CASE("in debug mode a listener or stream that dies while a child waits in it is named") {
    const auto child = run_in_child([] {
        io::run({.debug = true}, [] {
            creel::with_nursery({.on_error = creel::collect()}, [](creel::nursery& n) {
                auto [a, b] = stream_pair();
                io::tcp_listener listener{io::endpoint::loopback_v4(0)};
                n.spawn({.name = "acceptor"}, [&] { static_cast<void>(listener.accept()); });
                n.spawn({.name = "reader"}, [&, &s = a] {
                    std::array<std::byte, 4> bytes{};
                    static_cast<void>(s.recv(bytes));
                });
                settle_and_poll();
            });
        });
    });
    INFO(to_string(child));
    CHECK_THAT(child.stderr_text, Catch::Contains("a listener is destroyed while acceptor (#") &&
                                      Catch::Contains(" waits for accept on 127.0.0.1:") &&
                                      Catch::Contains("a stream is destroyed while reader (#"));
}
