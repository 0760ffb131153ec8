// Much of what fibers do, for valgrind's memcheck: switches between stacks near each other, those
// that go back and come again, Boost's own fibers, exceptions, threads that wake each other,
// sockets.
#include <creel/creel.hpp>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/operations.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <span>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace {

// What it writes and reads is valid memory, deep in its stack, before and after the wait.
template <typename Wait>
int deep(Wait wait) {
    std::array<char, 20'000> frame{};
    frame.fill(1);
    wait();
    int sum = 0;
    for (const char c : frame)
        sum += c;
    return sum;
}

int bursts() {
    int sum = 0;
    for (int burst = 0; burst < 3; ++burst)
        creel::with_nursery([&](creel::nursery& children) {
            for (int i = 0; i < 40; ++i)
                children.spawn([&] { sum += deep([] { creel::this_fiber::yield(); }); });
        });
    return sum;
}

int natives() {
    int sum = 0;
    std::vector<boost::fibers::fiber> fibers;
    for (int i = 0; i < 10; ++i)
        fibers.emplace_back([&, i] {
            sum += deep([i] {
                if (i % 2 == 0)
                    boost::this_fiber::yield();
                else
                    creel::this_fiber::sleep_for(1ms);
            });
        });
    for (boost::fibers::fiber& f : fibers)
        f.join();
    return sum;
}

int timeouts() {
    int count = 0;
    creel::with_nursery([&](creel::nursery& children) {
        for (int i = 0; i < 20; ++i)
            children.spawn([&] {
                try {
                    creel::fail_after(1ms, [] { creel::this_fiber::sleep_for(1h); });
                } catch (const creel::timed_out&) {
                    ++count;
                }
            });
    });
    return count;
}

int messages() {
    int sum = 0;
    creel::sync::queue<int> queue{2};
    std::thread producer{[&] {
        for (int i = 1; i <= 20; ++i)
            static_cast<void>(queue.push(i));
        queue.close();
    }};
    while (const auto message = queue.pop())
        sum += *message;
    producer.join();
    return sum + creel::blocking([] { return 1; });
}

int echoes() {
    creel::io::tcp_listener listener{creel::io::endpoint{"127.0.0.1", 0}};
    int count = 0;
    creel::with_nursery([&](creel::nursery& children) {
        children.spawn([&] {
            auto peer = listener.accept();
            std::array<std::byte, 100> buffer;
            while (const std::size_t n = peer.recv(buffer))
                peer.send_all(std::span{buffer}.first(n));
        });
        children.spawn([&] {
            auto stream = creel::io::tcp_stream::connect(listener.local_endpoint());
            std::array<std::byte, 50> buffer{};
            for (int i = 0; i < 20; ++i) {
                stream.send_all(buffer);
                stream.recv_exact(buffer);
                count += buffer[7] == std::byte{0} ? 1 : 0;
            }
            stream.shutdown_send();
        });
    });
    return count;
}

} // namespace

int main() {
    bool right = false;
    std::thread{[&] {
        creel::io::run([&] {
            right = bursts() == 3 * 40 * 20'000 && natives() == 10 * 20'000 && timeouts() == 20 &&
                    messages() == 211 && echoes() == 20;
        });
    }}.join();
    creel::io::run([&] { right = right && bursts() == 3 * 40 * 20'000; });
    std::puts(right ? "all right" : "wrong");
    return right ? 0 : 1;
}
