#pragma once

// Benchmarks inside one process, measured in CPU time per operation and, with --instructions, in
// user-space instructions per operation, which do not drift with the machine.
//
//     bench::micro jumps() {
//         return bench::micro{"jump"}
//             .add("jump_fcontext", bench::control, {"fibers:2", 2}, [](bench::meter& meter) {
//                 prepare();
//                 meter.measure([&] { for (auto n = meter.rounds(); n > 0; --n) jump_twice(); });
//                 check();
//             }); }
//     const bench::registration times{[] { return jumps().family(); }};
//     const bench::registration instructions{[] { return jumps().instruction_family(); }};

#include "harness.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace creel::bench {

inline constexpr bool control = true;
inline constexpr bool contender = false;

// The function under test gets a meter. It calls start() and stop() once each and does `rounds()`
// rounds of the operations of its case in between. Nothing outside is measured. If it throws,
// because a check of its work failed, the measurement has failed.
class meter {
public:
    // The stop() of a meter that counts ends the process: see alone.hpp.
    enum class purpose : bool { timing, counting };

    meter(std::uint64_t rounds, purpose what) : rounds_(rounds), purpose_(what) {}

    [[nodiscard]] std::uint64_t rounds() const { return rounds_; }
    void start();
    void stop();
    template <class F>
    void measure(F&& f) {
        start();
        f();
        stop();
    }

    // CPU time of the process, user and kernel. Time in which the process waits for a core, because
    // other processes use it, does not count. Throws: std::logic_error when nothing was measured.
    [[nodiscard]] std::chrono::nanoseconds elapsed() const;

private:
    std::uint64_t rounds_;
    purpose purpose_;
    std::chrono::nanoseconds started_{0};
    std::chrono::nanoseconds elapsed_{0};
    bool stopped_ = false;
};

struct micro_case {
    std::string name;
    std::uint64_t operations = 1; // in one round
};

class micro {
public:
    explicit micro(std::string name) : name_(std::move(name)) {}

    // Candidates and cases keep the order in which they first appear.
    micro& add(std::string candidate, bool is_control, micro_case what,
               std::function<void(meter&)> run) &;
    micro&& add(std::string candidate, bool is_control, micro_case what,
                std::function<void(meter&)> run) && {
        add(std::move(candidate), is_control, std::move(what), std::move(run));
        return std::move(*this);
    }

    // Leaves a candidate out of the instruction family, because the kernel does most of its work.
    micro& uncounted(std::string candidate) {
        uncounted_.push_back(std::move(candidate));
        return *this;
    }

    // The rounds of a measurement are calibrated once per candidate and case, so that it takes
    // about 50 ms (10 ms when quick). The measuring thread stays on the first allowed core.
    [[nodiscard]] bench::family family() const;

    // Measured once, as the difference between a run of some tens of thousands of operations and a
    // run of twice that number. So neither the preparation nor the first touch of memory counts.
    [[nodiscard]] bench::family instruction_family() const;

private:
    struct item {
        std::string candidate;
        bool is_control;
        micro_case what;
        std::function<void(meter&)> run;
    };
    struct table; // items by candidate and case

    static table arrange(const std::string& name, const std::vector<item>& items);

    std::string name_;
    std::vector<item> items_;
    std::vector<std::string> uncounted_;
};

} // namespace creel::bench
