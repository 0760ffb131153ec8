// The park family: the memory of a fiber that waits, and the time to create it and let it wait. All
// fibers wait for one gate; then the gate opens, and all of them must pass. Each measurement has a
// process of its own, because memory that an earlier one left in a free list would make the next
// one look cheap.

#include "alone.hpp"
#include "coroutine.hpp"
#include "micro.hpp"
#include "report.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/run.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>

#include <unistd.h>

namespace creel::bench {
namespace {

// The resident memory of this process.
std::uint64_t resident_bytes() {
    std::ifstream file{"/proc/self/statm"};
    std::uint64_t size = 0;
    std::uint64_t resident = 0;
    if (!(file >> size >> resident))
        throw std::runtime_error("cannot read /proc/self/statm");
    return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

// The work of one process: it creates `rounds()` fibers between begin and end.
class parking {
public:
    explicit parking(bench::meter& meter) : meter_(meter) {}

    [[nodiscard]] std::uint64_t fibers() const { return meter_.rounds(); }

    void begin() {
        before_ = resident_bytes();
        meter_.start();
    }
    void end(std::uint64_t parked) {
        meter_.stop();
        bytes_ = static_cast<double>(resident_bytes()) - static_cast<double>(before_);
        if (parked != fibers())
            throw std::runtime_error("not every fiber is parked");
    }
    [[nodiscard]] values result(std::uint64_t woken) const {
        if (woken != fibers())
            throw std::runtime_error("not every fiber was woken");
        const auto count = static_cast<double>(fibers());
        return {bytes_ / count, static_cast<double>(meter_.elapsed().count()) / count};
    }

private:
    bench::meter& meter_;
    std::uint64_t before_ = 0;
    double bytes_ = 0;
};

// The least primitive on creel's park protocol: a list of waiters, which open() wakes.
class creel_gate {
public:
    void pass() {
        check_cancel();
        gate_waiter waiter;
        waiter.next = waiting_;
        waiting_ = &waiter;
        ++parked_;
        static_cast<void>(park(waiter));
        ++woken_;
    }
    void open() {
        while (gate_waiter* first = waiting_) {
            waiting_ = first->next;
            wake(*first);
        }
    }
    [[nodiscard]] std::uint64_t parked() const { return parked_; }
    [[nodiscard]] std::uint64_t woken() const { return woken_; }

private:
    struct gate_waiter : waiter {
        static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
        static void describe(const waiter&, std::string& text) { text += "a gate"; }
        static constexpr waiter_kind table{&withdraw, &describe, false};

        gate_waiter() : waiter(table) {}
        gate_waiter* next = nullptr;
    };

    gate_waiter* waiting_ = nullptr;
    std::uint64_t parked_ = 0;
    std::uint64_t woken_ = 0;
};

values park_creel(parking& run) {
    creel_gate gate;
    io::run([&](nursery& root) {
        run.begin();
        for (auto left = run.fibers(); left > 0; --left)
            root.spawn([&gate] { gate.pass(); });
        while (gate.parked() < run.fibers())
            this_fiber::yield();
        run.end(gate.parked());
        gate.open();
    });
    return run.result(gate.woken());
}

// Boost's default stacks, 128 KiB without a guard. The fibers wait for a mutex.
values park_boost_fiber(parking& run) {
    std::vector<boost::fibers::fiber> fibers(run.fibers());
    boost::fibers::mutex gate;
    std::uint64_t parked = 0;
    std::uint64_t woken = 0;
    gate.lock();
    run.begin();
    for (auto& fiber : fibers)
        fiber = boost::fibers::fiber{[&] {
            ++parked;
            gate.lock();
            ++woken;
            gate.unlock();
        }};
    while (parked < run.fibers())
        boost::this_fiber::yield();
    run.end(parked);
    gate.unlock();
    for (auto& fiber : fibers)
        fiber.join();
    return run.result(woken);
}

// The same list of waiters for coroutines. Each waiter is in the frame of its coroutine.
class coroutine_gate {
public:
    class awaiter {
    public:
        explicit awaiter(coroutine_gate& gate) : gate_(gate) {}
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            coroutine_ = waiting;
            next_ = std::exchange(gate_.waiting_, this);
            ++gate_.parked_;
        }
        void await_resume() const noexcept { ++gate_.woken_; }

    private:
        friend class coroutine_gate;
        coroutine_gate& gate_;
        std::coroutine_handle<> coroutine_;
        awaiter* next_ = nullptr;
    };

    awaiter pass() { return awaiter{*this}; }
    void open() {
        while (awaiter* first = waiting_) {
            waiting_ = first->next_;
            first->coroutine_.resume();
        }
    }
    [[nodiscard]] std::uint64_t parked() const { return parked_; }
    [[nodiscard]] std::uint64_t woken() const { return woken_; }

private:
    awaiter* waiting_ = nullptr;
    std::uint64_t parked_ = 0;
    std::uint64_t woken_ = 0;
};

[[gnu::noinline]] coroutine pass(coroutine_gate& gate) {
    co_await gate.pass();
}

values park_coroutine(parking& run) {
    std::vector<coroutine> coroutines(run.fibers());
    coroutine_gate gate;
    run.begin();
    for (auto& one : coroutines) {
        one = pass(gate);
        one.resume();
    }
    run.end(gate.parked());
    gate.open();
    return run.result(gate.woken());
}

struct parker {
    const char* name;
    bool is_control;
    values (*run)(parking&);
    double bytes; // an estimate for each fiber, for the check that all of them fit
};

constexpr parker parkers[] = {{"creel", contender, park_creel, 5'000},
                              {"boost_fiber", control, park_boost_fiber, 9'000},
                              {"coroutine", control, park_coroutine, 200}};

constexpr std::uint64_t sizes[] = {10'000, 100'000, 1'000'000};
constexpr std::uint64_t counted_size = 10'000; // valgrind maps about 16 GiB of stacks at most

std::string case_of(std::uint64_t fibers) {
    return "fibers:" + std::to_string(fibers);
}

// A failed measurement is better than a process, ours or another, that the kernel kills.
void check_memory(double bytes) {
    std::ifstream file{"/proc/meminfo"};
    for (std::string key; file >> key;)
        if (double kib = 0; key == "MemAvailable:" && file >> kib && kib * 1024 < bytes)
            throw std::runtime_error("needs " + std::to_string(bytes / (1 << 30)) +
                                     " GiB of memory, of which " + std::to_string(kib / (1 << 20)) +
                                     " are free");
}

family make_family() {
    family result;
    result.name = "park";
    result.figures = {{"bytes", "bytes"}, {"create", "ns"}};
    result.rounds = 5;
    for (const auto size : sizes)
        result.cases.push_back(case_of(size));
    for (const auto& one : parkers)
        result.candidates.push_back(
            {one.name, one.is_control,
             [one](std::size_t case_index, const effort&) -> values {
                 const auto size = sizes[case_index];
                 check_memory(one.bytes * static_cast<double>(size) + (1 << 30));
                 return measure_alone(id_of("park", one.name, "", case_of(size)), size);
             },
             [one](std::size_t, std::uint64_t rounds) {
                 meter meter{rounds, meter::purpose::timing};
                 parking run{meter};
                 return one.run(run);
             }});
    return result;
}

// All instructions of the creation, with the first touch of all memory.
family make_instruction_family() {
    family result;
    result.name = "park";
    result.figures = {{"create", "instructions"}};
    result.cases = {case_of(counted_size) + "/instructions"};
    result.instructions = true;
    result.rounds = result.quick_rounds = 1;
    for (const auto& one : parkers)
        result.candidates.push_back(
            {one.name, one.is_control,
             [one, what = result.cases.front()](std::size_t, const effort&) -> values {
                 const auto id = id_of("park", one.name, "", what);
                 const auto with = count_instructions_alone(id, counted_size);
                 const auto without = count_instructions_alone(id, 0);
                 return {(static_cast<double>(with) - static_cast<double>(without)) /
                         static_cast<double>(counted_size)};
             },
             [one](std::size_t, std::uint64_t rounds) {
                 meter meter{rounds, meter::purpose::counting};
                 parking run{meter};
                 return one.run(run);
             }});
    return result;
}

const registration times{make_family};
const registration instructions{make_instruction_family};

} // namespace
} // namespace creel::bench
