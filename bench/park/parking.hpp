#pragma once

// What the candidates of the park family share: the measurement of one process, and the data that
// a nested call keeps.

#include "micro.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace creel::bench {

// What the fibers have done. Each candidate's gate counts it.
struct parking_counts {
    std::uint64_t parked = 0;
    std::uint64_t woken = 0;
    std::uint64_t intact_calls = 0;
};

// The work of one process: it creates `fibers()` fibers between begin and end.
class parking {
public:
    explicit parking(bench::meter& meter) : meter_(meter) {}

    [[nodiscard]] std::uint64_t fibers() const { return meter_.rounds(); }

    void begin();
    // Throws: std::runtime_error when not every fiber is parked.
    void end(const parking_counts& now);
    // Bytes and time of a fiber. Throws: std::runtime_error when not every fiber was woken, or one
    // has not found the data of all its `calls` nested calls.
    [[nodiscard]] values result(const parking_counts& now, unsigned calls) const;

private:
    bench::meter& meter_;
    std::uint64_t before_ = 0;
    double bytes_ = 0;
};

// In the cases `calls:5` each fiber waits in the innermost of as many nested calls.
inline constexpr unsigned nested_calls = 5;

// The data of a nested call, as a server has it: a buffer that is filled, and a string on the heap.
// The functions are not inline, so no compiler can leave the data out.
class call_data {
public:
    explicit call_data(unsigned call);
    // For after the wait. Returns 1 if both are as they were made.
    [[nodiscard]] unsigned intact(unsigned call) const;

private:
    std::array<char, 256> buffer_;
    std::string text_;
};

values park_creel(parking& run);
values park_creel_nested(parking& run);
values park_boost_fiber(parking& run);
values park_boost_fiber_nested(parking& run);
values park_coroutine(parking& run);
values park_coroutine_nested(parking& run);

} // namespace creel::bench
