// The three journeys that tests/journeys.sh counts. GCC calls the two hooks at the end of this file
// where a function of creel begins and ends. They record what begins between two points of a
// journey. Prints a line "JOURNEY DEPTH ADDRESS" for each function that begins.
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>
#include <creel/io/tcp_listener.hpp>
#include <creel/io/tcp_stream.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/queue.hpp>

#include <boost/fiber/context.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

namespace io = creel::io;
using namespace std::chrono_literals;

namespace {

struct entry {
    void* function;
    int depth;
};

// How deep one context is in calls that began during the recording.
struct call_depth {
    const void* context = nullptr;
    int depth = 0;
};

// One thread records at a time, and only that thread touches what follows.
thread_local bool recording = false;
const void* recorded_context = nullptr; // null: every context of the thread is recorded
std::array<call_depth, 8> depths;
std::vector<entry> entries;

enum class contexts : bool { all, this_one };

void start(contexts which) {
    entries.reserve(10'000);
    depths = {};
    recorded_context = which == contexts::this_one ? boost::fibers::context::active() : nullptr;
    recording = true;
}

void stop() {
    recording = false;
}

void print(int journey) {
    for (const entry& e : entries)
        std::printf("%d %d %p\n", journey, e.depth, e.function);
    entries.clear();
}

// The depth of the context that runs, or null where nothing is recorded.
[[gnu::no_instrument_function]] int* recorded_depth() {
    if (!recording)
        return nullptr;
    const void* context = boost::fibers::context::active();
    if (recorded_context != nullptr && recorded_context != context)
        return nullptr;
    for (call_depth& d : depths) {
        if (d.context == nullptr)
            d.context = context;
        if (d.context == context)
            return &d.depth;
    }
    std::abort();
}

// A recv that finds no data, until the fiber that is ready runs.
void recv_that_waits() {
    io::run([] {
        io::tcp_listener listener{io::endpoint{"127.0.0.1", 0}};
        io::tcp_stream client = io::tcp_stream::connect(listener.local_endpoint());
        io::tcp_stream server = listener.accept();
        std::array<std::byte, 16> buffer{};
        client.send_all(std::array<std::byte, 1>{});
        static_cast<void>(server.recv(buffer)); // enters the stream into the table of the thread
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                creel::this_fiber::yield();
                stop();
                client.send_all(std::array<std::byte, 1>{});
            });
            creel::this_fiber::yield(); // the child is now in its own yield
            start(contexts::this_one);
            static_cast<void>(server.recv(buffer));
        });
    });
}

// A child throws, until the queue.pop in which its sibling waits has thrown `cancelled`.
void failing_child() {
    try {
        io::run([] {
            creel::sync::queue<int> queue{1};
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    try {
                        static_cast<void>(queue.pop());
                    } catch (...) {
                        stop();
                        throw;
                    }
                });
                n.spawn([] {
                    start(contexts::all);
                    throw std::runtime_error{"the child fails"};
                });
            });
        });
    } catch (const std::runtime_error&) {
    }
}

// Whether a thread of this process sleeps in the kernel.
bool sleeps(pid_t thread) {
    std::ifstream file{"/proc/self/task/" + std::to_string(thread) + "/stat"};
    std::string line;
    std::getline(file, line);
    return line.find(") S ") != std::string::npos;
}

// An unlock of a mutex for which a fiber of another thread waits, whose scheduler sleeps.
void unlock_that_wakes_a_thread() {
    creel::sync::mutex mutex;
    std::atomic<pid_t> waiting{0};
    std::thread other;
    io::run([&] {
        mutex.lock();
        other = std::thread{[&] {
            io::run([&] {
                waiting = gettid();
                mutex.lock();
                mutex.unlock();
            });
        }};
        // Twenty times in turn: it may sleep for a moment for another reason.
        for (int seen = 0; seen < 20; std::this_thread::sleep_for(1ms))
            seen = waiting != 0 && sleeps(waiting) ? seen + 1 : 0;
        start(contexts::all);
        mutex.unlock();
        stop();
    });
    other.join();
}

} // namespace

extern "C" {

[[gnu::no_instrument_function]] void __cyg_profile_func_enter(void* function, void*) {
    if (int* depth = recorded_depth())
        entries.push_back({function, (*depth)++});
}

// A function that began before the recording may end in it.
[[gnu::no_instrument_function]] void __cyg_profile_func_exit(void*, void*) {
    if (int* depth = recorded_depth())
        *depth = std::max(*depth - 1, 0);
}
}

int main() {
    recv_that_waits();
    print(1);
    failing_child();
    print(2);
    unlock_that_wakes_a_thread();
    print(3);
}
