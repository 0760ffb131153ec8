// The accept family: the cost of a connection for a TCP server that only accepts and closes. Server
// and client are processes of their own, each with one thread pinned to its own core. The figures
// are explained in bench/README.md.

#include "child.hpp"
#include "harness.hpp"
#include "system_call.hpp"

#include "accept/load.hpp"
#include "accept/server.hpp"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <new>
#include <stdexcept>

#include <sys/mman.h>
#include <unistd.h>

namespace creel::bench::accepting {
namespace {

using namespace std::chrono_literals;

// A count that this process shares with all processes that it forks while the object lives.
class shared_count {
public:
    shared_count()
        : memory_(mmap(nullptr, sizeof(std::atomic<std::uint64_t>), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
        if (memory_ == MAP_FAILED)
            fail(errno, "mmap");
        count_ = new (memory_) std::atomic<std::uint64_t>{0};
    }
    shared_count(const shared_count&) = delete;
    shared_count& operator=(const shared_count&) = delete;
    ~shared_count() { munmap(memory_, sizeof *count_); }

    [[nodiscard]] std::atomic<std::uint64_t>& get() const { return *count_; }

private:
    void* memory_;
    std::atomic<std::uint64_t>* count_;
};

struct shape {
    const char* name;
    pattern how;
    unsigned accepts;
};

constexpr shape shapes[] = {
    {"", pattern::bursts, 1}, {"accepts:8", pattern::bursts, 8}, {"stream", pattern::stream, 1}};

load_result measure(serve run, const shape& which, const effort& effort) {
    raise_descriptor_limit();
    const shared_count finished;
    const child server_process{0, [&](int pipe) { run({pipe, which.accepts, finished.get()}); }};
    std::uint16_t port = 0;
    server_process.read_exact(&port, sizeof port, 5000);
    const load wanted{which.how, effort.quick ? 200ms : 700ms};
    const child client_process{1, [&](int pipe) {
                                   const auto seen =
                                       drive(wanted, port, server_process.pid(), finished.get());
                                   if (write(pipe, &seen, sizeof seen) != sizeof seen)
                                       throw std::runtime_error("cannot report");
                               }};
    load_result result{};
    client_process.read_exact(&result, sizeof result, 20'000);
    return result;
}

family make_family() {
    family result;
    result.name = "accept";
    result.figures = {{"rate", "1/s", true}, {"cpu", "ns"}};
    for (const auto& one : shapes)
        result.cases.emplace_back(one.name);
    const auto add = [&](const char* name, bool control, serve run) {
        result.candidates.push_back(
            {name, control, [run](std::size_t case_index, const effort& effort) -> values {
                 const auto seen = measure(run, shapes[case_index], effort);
                 const auto accepted = static_cast<double>(seen.accepted);
                 return {accepted / seen.seconds, seen.server_cpu_seconds * 1e9 / accepted};
             }});
    };
    add("creel", false, serve_with_creel);
    add("raw_uring", true, serve_with_multishot);
    add("raw_uring_single", true, serve_with_single_accepts);
    return result;
}

const registration here{make_family};

} // namespace
} // namespace creel::bench::accepting
