// The record of one Boost.Fiber context: its kind, what it waits for, and what a switch to it must
// swap.
//
// There are four kinds. A *carrier* is ours: a recycled context that runs one task after another.
// Its record lies at the top of its own stack, so that record, Boost's control block and shallow
// frames share one page. *main* is the context that called run. The *dispatcher* is Boost's own
// housekeeper. A *native* is a boost::fibers::fiber of the program. Its record lives in a side map,
// because another algorithm might later cast properties that are set on a native context.
//
// The states of a fiber:
//
//   running -- 1 suspend_current() with waiting_on set ------> parked
//   parked --- 2 scheduler::wake_arrived(), interrupt() -----> ready     waiting_on is null again
//   running -- 3 yield() ------------------------------------> ready
//   ready ---- 4 switch_to(), pick_next() -------------------> running   it is current_
//
// A carrier is also idle or ending: see carrier_pool.hpp.
#pragma once

#include <creel/fibers/detail/run/parker.hpp>
#include <creel/fibers/detail/stack/stack_pool.hpp>
#include <creel/fibers/detail/task/task_record.hpp>

#include <boost/fiber/context.hpp>
#include <boost/fiber/properties.hpp>

#include <cstddef>
#include <cstdint>
#include <new>

namespace creel::detail {

// The C++ ABI's per-thread exception state (__cxa_eh_globals, Itanium C++ ABI 2.2.2). Boost keeps
// it per context only since 1.88 (boost_exceptions.hpp). Without that, two fibers that park inside
// `catch` rethrow each other's exceptions.
struct exception_state {
    void* caught_exceptions = nullptr;
    unsigned int uncaught_exceptions = 0;
#if defined(__ARM_EABI_UNWINDER__)
    void* propagating_exceptions = nullptr;
#endif

    bool operator==(const exception_state&) const = default;
};

struct trace_track;

struct fiber_record final : boost::fibers::fiber_properties, parker, runnable {
    enum class fiber_kind : std::uint8_t { carrier, main, dispatcher, native };

    explicit fiber_record(fiber_kind k) noexcept
        : fiber_properties(nullptr), runnable(kind_type::fiber), what(k) {}

    // Boost deletes a context's properties; this one lies on the context's own stack, which goes
    // back to the pool as a whole.
    static void operator delete(void*) noexcept {}

    fiber_kind what;
    std::uint64_t id = 0; // a carrier has its task's
    boost::fibers::context* context = nullptr;
    exception_state exceptions{};
    task_record* current = nullptr; // carriers: the task it runs; null tells an idle one to end
    fiber_record* next_idle = nullptr;
    stack_memory stack{};              // carriers
    bool has_default_stack = true;     // carriers: worth keeping when idle
    std::byte* stack_bottom = nullptr; // for the sanitizers; a guess for natives
    std::size_t stack_bytes = 0;
    const char* parked_at = nullptr;   // the frame of its last park()
    time_point parked_since{};         // the last poll before that park
    fiber_record* next_made = nullptr; // carriers: in the list of all of them
    fiber_record* previous_made = nullptr;
    void* sanitizer_state = nullptr; // ASan: fake stack. TSan: its fiber. Valgrind: of natives
                                     // and the dispatcher, one more than the stack's number
    trace_track* track = nullptr;    // while the run is traced, since the task's first slice
};

// The number of the task that a carrier runs; of any other fiber its own.
[[nodiscard]] inline std::uint64_t number_of(const fiber_record& f) noexcept {
    return f.current != nullptr ? f.current->id : f.id;
}

// Asks the processor for the memory in which a parked fiber's registers are saved: a switch loads
// them first of all. They have often left the caches, because the other fibers and the kernel have
// run meanwhile. Now they come while these run again. They are the lowest of the 136 bytes below
// the frame of park() (x86-64, GCC 12, Boost 1.81); elsewhere this may fetch in vain. On an echo
// server it saves 1 to 3% of the CPU time.
inline void prefetch_registers(const fiber_record& parked) noexcept {
    constexpr int saved_bytes = 136;
    for (int line = 0; line < 3; ++line)
        __builtin_prefetch(parked.parked_at - saved_bytes + 64 * line);
}

// The state that the sanitizers, or valgrind, keep of a context: see switch.cpp.
void adopt_sanitizer_state(fiber_record& main) noexcept; // the running thread's
void drop_sanitizer_state(fiber_record& f) noexcept;
void drop_sanitizer_state(void* state) noexcept;

// A carrier's record lies at the top of its stack.
inline constexpr std::size_t carrier_record_bytes = (sizeof(fiber_record) + 63) / 64 * 64;

inline fiber_record& carrier_record(stack_memory stack) noexcept {
    return *std::launder(reinterpret_cast<fiber_record*>(stack.top - carrier_record_bytes));
}

} // namespace creel::detail
