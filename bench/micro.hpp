#pragma once

// Benchmarks inside one process, counted in ns per operation and, where the machine lets us read
// the counter, in user-space instructions per operation (which do not drift with the machine).
//
//     const bench::registration here{[] {
//         return bench::micro{"switch"}
//             .add("jump_fcontext", bench::control, "fibers:2", [](bench::meter& meter) {
//                 prepare();
//                 meter.measure([&] { for (auto n = meter.operations(); n > 0; --n) jump(); });
//             })
//             .family(); }};

#include "harness.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace creel::bench {

inline constexpr bool control = true;
inline constexpr bool contender = false;

// Makes the compiler believe that `value` is read and changed here.
template <class T>
inline void keep(T& value) {
    asm volatile("" : "+m"(value) : : "memory");
}

// Given to the function under test, which does `operations()` operations between start and stop,
// exactly once; what stands outside is not measured.
class meter {
public:
    meter(std::uint64_t operations, int instruction_counter)
        : operations_(operations), counter_(instruction_counter) {}

    [[nodiscard]] std::uint64_t operations() const { return operations_; }
    void start();
    void stop();
    template <class F>
    void measure(F&& f) {
        start();
        f();
        stop();
    }

    // Throws: std::logic_error when nothing was measured.
    [[nodiscard]] std::chrono::nanoseconds elapsed() const;
    [[nodiscard]] std::uint64_t instructions() const { return instructions_; }

private:
    std::uint64_t operations_;
    int counter_;
    std::chrono::steady_clock::time_point started_;
    std::chrono::nanoseconds elapsed_{0};
    std::uint64_t instructions_ = 0;
    bool stopped_ = false;
};

class micro {
public:
    explicit micro(std::string name) : name_(std::move(name)) {}

    // Candidates and cases keep the order in which they first appear.
    micro& add(std::string candidate, bool is_control, std::string case_name,
               std::function<void(meter&)> run) &;
    micro&& add(std::string candidate, bool is_control, std::string case_name,
                std::function<void(meter&)> run) && {
        add(std::move(candidate), is_control, std::move(case_name), std::move(run));
        return std::move(*this);
    }

    // Operations per measurement are calibrated once per case, so that one takes about 50 ms (10
    // when quick). The measuring thread stays on the first allowed core.
    [[nodiscard]] bench::family family() const;

private:
    struct item {
        std::string candidate;
        bool is_control;
        std::string case_name;
        std::function<void(meter&)> run;
    };
    std::string name_;
    std::vector<item> items_;
};

} // namespace creel::bench
