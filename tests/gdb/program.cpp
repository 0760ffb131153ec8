// The program that tests/gdb/run.sh looks at in gdb. When each fiber waits for what it is to wait
// for, one fiber calls look_here(). `program N` has N sleeping fibers more.
#include <creel/creel.hpp>

#include <boost/fiber/fiber.hpp>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include <unistd.h>

namespace io = creel::io;
using namespace std::chrono_literals;

// A statement behind each last call keeps it from becoming a jump, which leaves no frame.
#define CREEL_RETURNS_HERE asm volatile("" : : : "memory")

extern "C" [[gnu::noinline]] void look_here() {
    CREEL_RETURNS_HERE;
}

namespace {

std::atomic<pid_t> other_thread = 0;

[[gnu::noinline]] void nap() {
    creel::this_fiber::sleep_for(1h);
    CREEL_RETURNS_HERE;
}

[[gnu::noinline]] void take_a_nap() {
    nap();
    CREEL_RETURNS_HERE;
}

[[gnu::noinline]] void knock(creel::sync::mutex& door) {
    door.lock();
    CREEL_RETURNS_HERE;
}

[[gnu::noinline]] void receive(creel::sync::queue<int>& parcels) {
    static_cast<void>(parcels.pop());
    CREEL_RETURNS_HERE;
}

[[gnu::noinline]] void greet(io::tcp_listener& gate) {
    static_cast<void>(gate.accept());
    CREEL_RETURNS_HERE;
}

[[gnu::noinline]] void serve(io::tcp_listener& gate, creel::sync::queue<int>& parcels) {
    creel::with_nursery({.name = "inner"}, [&](creel::nursery& inner) {
        inner.spawn({.name = "doorman"}, [&] { greet(gate); });
        inner.spawn([&] { receive(parcels); });
    });
    CREEL_RETURNS_HERE;
}

// The state that the kernel gives a thread: S is asleep.
char state_of_thread(pid_t thread) {
    std::ifstream file{"/proc/self/task/" + std::to_string(thread) + "/stat"};
    std::string text;
    std::getline(file, text);
    const std::size_t name_ends = text.rfind(')');
    return name_ends != std::string::npos ? text.at(name_ends + 2) : '?';
}

// It is spawned last, so that the other fibers have begun to wait when it has yielded once. The
// thread has begun to wait when it is asleep.
[[gnu::noinline]] void watch() {
    do {
        creel::this_fiber::yield();
    } while (other_thread == 0 || state_of_thread(other_thread) != 'S');
    look_here();
    std::abort();
}

[[gnu::noinline]] void house(int crowd) {
    io::tcp_listener gate{io::endpoint{"127.0.0.1", 0}};
    creel::sync::mutex door;
    creel::sync::queue<int> parcels{1};
    door.lock();
    boost::fibers::fiber native{[] { take_a_nap(); }};
    creel::with_nursery({.name = "outer"}, [&](creel::nursery& outer) {
        outer.spawn({.name = "sleeper"}, [] { take_a_nap(); });
        outer.spawn({.name = "visitor"}, [&] { knock(door); });
        outer.spawn({.name = "server"}, [&] { serve(gate, parcels); });
        for (int i = 0; i < crowd; ++i)
            outer.spawn([] { take_a_nap(); });
        outer.spawn({.name = "watcher"}, [] { watch(); });
    });
    CREEL_RETURNS_HERE;
}

[[gnu::noinline]] void annex() {
    creel::with_nursery({.name = "annex"}, [](creel::nursery& children) {
        children.spawn({.name = "far sleeper"}, [] { take_a_nap(); });
        creel::this_fiber::yield();
        other_thread = ::gettid();
    });
    CREEL_RETURNS_HERE;
}

} // namespace

int main(int argc, char** argv) {
    const int crowd = argc > 1 ? std::atoi(argv[1]) : 0;
    io::run({.stack_bytes = 16 * 1024}, [&] {
        const std::jthread other{[] { io::run([] { annex(); }); }}; // the second, on each machine
        house(crowd);
    });
}
