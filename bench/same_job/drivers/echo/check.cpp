// The check of the echo job. It plays the clients.

#include "../expect.hpp"
#include "../job.hpp"
#include "../program.hpp"
#include "client.hpp"

namespace creel::bench::same_job::echo {
namespace {

void send_many_sizes(std::uint16_t port) {
    client peer{port, 0};
    for (const std::size_t size : {1UL, 2UL, 63UL, 64UL, 1000UL, 1460UL, 4096UL, 16383UL, 16384UL,
                                   16385UL, 65536UL, 100'000UL, 1'000'000UL})
        peer.exchange(size);
    peer.finish();
}

void pipeline(std::uint16_t port) {
    client peer{port, 1};
    std::vector<std::size_t> sizes;
    std::size_t all = 0;
    for (std::size_t i = 0; i < 5000; ++i)
        all += sizes.emplace_back(i * i % 701 + 1);
    with_nursery([&](nursery& n) {
        n.spawn([&] {
            for (const std::size_t size : sizes)
                peer.send(size);
        });
        peer.receive(all);
    });
    peer.finish();
}

// All bytes come back after the end of sending, and then the end.
void half_close(std::uint16_t port) {
    for (const std::size_t size : {0UL, 1UL, 16384UL, 300'000UL}) {
        client peer{port, size};
        with_nursery([&](nursery& n) {
            n.spawn([&] {
                peer.send(size);
                peer.end_of_sending();
            });
            peer.receive(size);
        });
        peer.receive_rest();
    }
}

// Connections break at once, in the middle of a message, and while the program waits until it can
// send. The others do not notice.
void reset(std::uint16_t port) {
    with_nursery([&](nursery& n) {
        bool broken = false;
        for (std::size_t i = 0; i < 8; ++i)
            n.spawn([&, i] {
                client steady{port, i};
                while (!broken)
                    steady.exchange(500 + i);
                steady.exchange(20'000);
                steady.finish();
            });
        for (std::size_t i = 0; i < 8; ++i) {
            {
                client{port, i}.break_at_the_end();
            }
            client cut{port, i};
            cut.break_at_the_end();
            cut.send(100'000);
            cut.receive(1000);
            client full{port, i};
            full.break_at_the_end();
            move_on_after(20ms, [&] { full.send(flood); });
        }
        broken = true;
        n.join();
    });
}

// A peer that does not read stops the program from reading, without harm to others. Every byte
// comes back when the peer reads again.
void read_slowly(std::uint16_t port) {
    client slow{port, 2};
    with_nursery([&](nursery& n) {
        n.spawn([&] { slow.send(flood); });
        for (std::size_t before = 1; slow.sent() != before;) {
            before = slow.sent();
            client other{port, 3};
            other.exchange(1000);
            this_fiber::sleep_for(200ms);
        }
        require(slow.sent() < flood, "the program read 64 MiB, but its peer read nothing");
        for (int i = 0; i < 50; ++i) {
            slow.receive(1000);
            this_fiber::sleep_for(1ms);
        }
        slow.receive(flood - 50'000);
    });
    slow.finish();
}

void serve_many(std::uint16_t port) {
    with_nursery([&](nursery& n) {
        for (std::size_t i = 0; i < 200; ++i)
            n.spawn([port, i] {
                client peer{port, i};
                for (std::size_t round = 0; round < 10; ++round)
                    peer.exchange((i * 977 + round * 3301) % 20'000 + 1);
                peer.finish();
            });
    });
}

void stay_idle(const program& server, std::uint16_t port) {
    std::vector<client> idle;
    for (std::size_t i = 0; i < 50; ++i)
        idle.emplace_back(port, i).exchange(100);
    // On a busy machine it may still do what the last message left to do, so one quiet stretch is
    // enough.
    for (int i = 0; i < 10; ++i) {
        const auto before = server.cpu_time();
        const auto waits_before = server.waits();
        this_fiber::sleep_for(300ms);
        if (server.cpu_time() - before < 5ms && server.waits() - waits_before < 5)
            return;
    }
    throw std::runtime_error("the program runs again and again, and no client sends");
}

// The descriptors that the program has without a connection: its only client knows that it has one
// more. `port`: no other client has connected to it.
std::ptrdiff_t own_descriptors(const program& server, std::uint16_t port) {
    client only{port, 0};
    only.exchange(100);
    const auto all = server.descriptors();
    only.finish();
    return all - 1;
}

} // namespace

void check(const std::string& path) {
    io::run([&] {
        program server{path, {}};
        const auto port = within(patience, "its start", [&] { return server.read_port(); });
        const auto before =
            within(patience, "a first message", [&] { return own_descriptors(server, port); });
        within(patience, "messages of many sizes", [&] { send_many_sizes(port); });
        within(patience, "many messages at once", [&] { pipeline(port); });
        within(patience, "the end of sending", [&] { half_close(port); });
        within(patience, "broken connections beside others", [&] { reset(port); });
        within(patience, "a peer that reads slowly", [&] { read_slowly(port); });
        within(patience, "200 connections", [&] { serve_many(port); });
        within(patience, "idle connections", [&] { stay_idle(server, port); });
        within(patience, "the close of all its connections",
               [&] { server.wait_for_descriptors(before); });
        within(patience, "a last message", [&] { send_many_sizes(port); });
    });
}

} // namespace creel::bench::same_job::echo
