// The deep family: a value that comes back through N nested calls, each of which may wait. On a
// fiber each is a plain call. A coroutine that may wait is a task with a frame of its own, and so
// must be each that awaits it; caller and called transfer control to each other. In the cases with
// `wait` the deepest call does wait, once. There two tasks take turns, so that each wait lets the
// other run; a loop resumes the innermost coroutine, and not those that await it. In the cases with
// `throw` the deepest call throws, and the first caller catches.

#include "micro.hpp"

#include "same_job/coroutine/group.hpp"
#include "same_job/coroutine/task.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <array>
#include <bit>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace creel::bench {
namespace {

namespace coroutines = ::same_job::coroutine;

constexpr std::array<unsigned, 3> depths{1, 10, 100};
constexpr std::array<unsigned, 2> counted_depths{1, 10}; // valgrind would take minutes for 100
constexpr std::array<unsigned, 2> thrown_depths{1, 10};
constexpr int warm_up_values = 4; // the first of them touch the stacks and allocate the frames

std::string case_of(unsigned calls) {
    return "calls:" + std::to_string(calls);
}

// What a call does: it adds to its argument, and mixes that with the value from below. The value is
// no sum or product, because the compiler would make a loop of the calls then.
constexpr std::uint64_t below(std::uint64_t argument) {
    return argument + 1;
}
constexpr std::uint64_t mixed(std::uint64_t value, std::uint64_t argument) {
    return std::rotl(value, 1) ^ argument;
}

// The data that all tasks of a measurement share. Each takes `meter.rounds()` values.
struct values_taken {
    bench::meter& meter;
    unsigned calls;
    std::uint64_t tasks = 1;
    std::uint64_t sum = 0; // only of measured ones

    // The argument changes, so that no call can be left out.
    [[nodiscard]] static std::uint64_t argument_of(std::uint64_t round) { return round & 1; }

    void check() const {
        const auto rounds = meter.rounds();
        if (sum != tasks * ((rounds + 1) / 2 * value_of(0) + rounds / 2 * value_of(1)))
            throw std::runtime_error("a value has not come back through all calls");
    }

private:
    [[nodiscard]] std::uint64_t value_of(std::uint64_t argument) const {
        std::uint64_t value = argument + calls - 1;
        for (unsigned level = calls - 1; level > 0; --level)
            value = mixed(value, argument + level - 1);
        return value;
    }
};

// What the deepest call throws.
struct deep_error {};

// The sum of what came back keeps the compiler from leaving the calls out.
struct errors_caught {
    std::uint64_t errors = 0;
    std::uint64_t sum = 0;

    void check(const meter& meter) const {
        if (errors != meter.rounds() || sum != 0)
            throw std::runtime_error("an error has not come back through all calls");
    }
};

// ---- creel --------------------------------------------------------------------------------------

template <class Deepest>
[[gnu::noinline]] std::uint64_t call(unsigned calls, std::uint64_t argument, Deepest deepest) {
    if (calls == 1) {
        deepest();
        return argument;
    }
    return mixed(call(calls - 1, below(argument), deepest), argument);
}

template <class Deepest>
void take_values(values_taken& all, bool is_first, Deepest deepest) {
    for (int i = 0; i < warm_up_values; ++i)
        static_cast<void>(call(all.calls, 0, deepest));
    if (is_first)
        all.meter.start();
    std::uint64_t sum = 0;
    for (std::uint64_t round = 0; round < all.meter.rounds(); ++round)
        sum += call(all.calls, values_taken::argument_of(round), deepest);
    if (is_first)
        all.meter.stop();
    all.sum += sum;
}

void creel_calls(meter& meter, unsigned calls) {
    values_taken all{meter, calls};
    io::run([&] { take_values(all, true, [] {}); });
    all.check();
}

void creel_calls_that_wait(meter& meter, unsigned calls) {
    values_taken all{meter, calls, 2};
    io::run([&](nursery& root) {
        for (std::uint64_t i = 0; i < all.tasks; ++i)
            root.spawn([&all, i] { take_values(all, i == 0, [] { this_fiber::yield(); }); });
    });
    all.check();
}

void creel_calls_that_throw(meter& meter, unsigned calls) {
    errors_caught all;
    const auto fail = [&meter] { // GCC warns of calls that it knows never to return
        if (meter.rounds() != 0)
            throw deep_error{};
    };
    io::run([&] {
        meter.start();
        for (std::uint64_t round = 0; round < meter.rounds(); ++round)
            try {
                all.sum += call(calls, round, fail);
            } catch (const deep_error&) {
                ++all.errors;
            }
        meter.stop();
    });
    all.check(meter);
}

// ---- coroutines ---------------------------------------------------------------------------------

// Suspends nothing.
struct no_turns {
    [[nodiscard]] static std::suspend_never wait() { return {}; }
    void run() const {}
};

// Coroutines that are ready. The line is made of awaiters, which are in the coroutines' frames.
class turns {
public:
    class awaiter {
    public:
        explicit awaiter(turns& all) : all_(all) {}
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            coroutine_ = waiting;
            (all_.first_ != nullptr ? all_.last_->next_ : all_.first_) = this;
            all_.last_ = this;
        }
        void await_resume() const noexcept {}

    private:
        friend class turns;
        turns& all_;
        std::coroutine_handle<> coroutine_;
        awaiter* next_ = nullptr;
    };

    awaiter wait() { return awaiter{*this}; }
    void run() {
        while (awaiter* const first = first_) {
            first_ = first->next_;
            first->coroutine_.resume();
        }
    }

private:
    awaiter* first_ = nullptr;
    awaiter* last_ = nullptr;
};

// As task<std::uint64_t>, but each frame is from operator new.
class heap_task {
public:
    struct promise_type : coroutines::task_result<std::uint64_t> {
        static void* operator new(std::size_t bytes) { return ::operator new(bytes); }
        static void operator delete(void* frame) noexcept { ::operator delete(frame); }
        heap_task get_return_object() noexcept {
            return heap_task{std::coroutine_handle<promise_type>::from_promise(*this)};
        }
    };

    heap_task(const heap_task&) = delete;
    heap_task& operator=(const heap_task&) = delete;
    ~heap_task() { handle_.destroy(); }

    struct awaiter {
        std::coroutine_handle<promise_type> called;
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <coroutines::task_promise Caller>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Caller> caller) const noexcept {
            called.promise().continuation = caller;
            called.promise().scope = caller.promise().scope;
            return called;
        }
        [[nodiscard]] std::uint64_t await_resume() const { return called.promise().take(); }
    };
    [[nodiscard]] awaiter operator co_await() && noexcept { return {handle_}; }

private:
    explicit heap_task(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}

    std::coroutine_handle<promise_type> handle_;
};

template <class Task, class Turns>
[[gnu::noinline]] Task call(unsigned calls, std::uint64_t argument, Turns& loop) {
    if (calls == 1) {
        co_await loop.wait();
        co_return argument;
    }
    co_return mixed(co_await call<Task>(calls - 1, below(argument), loop), argument);
}

template <class Task, class Turns>
coroutines::task<> take_values_awaiting(values_taken& all, bool is_first, Turns& loop) {
    for (int i = 0; i < warm_up_values; ++i)
        static_cast<void>(co_await call<Task>(all.calls, 0, loop));
    if (is_first)
        all.meter.start();
    std::uint64_t sum = 0;
    for (std::uint64_t round = 0; round < all.meter.rounds(); ++round)
        sum += co_await call<Task>(all.calls, values_taken::argument_of(round), loop);
    if (is_first)
        all.meter.stop();
    all.sum += sum;
}

template <class Task, class Turns, std::uint64_t tasks>
void coroutine_calls(meter& meter, unsigned calls) {
    values_taken all{meter, calls, tasks};
    Turns loop;
    coroutines::cancel_scope root;
    coroutines::group children{root, coroutines::errors::cancel_all};
    for (std::uint64_t i = 0; i < tasks; ++i)
        children.spawn(take_values_awaiting<Task>(all, i == 0, loop));
    loop.run();
    all.check();
}

struct no_turn_but_an_error {
    [[nodiscard]] static std::suspend_never wait() { throw deep_error{}; }
};

coroutines::task<> catch_errors(meter& meter, unsigned calls, errors_caught& all) {
    no_turn_but_an_error loop;
    meter.start();
    for (std::uint64_t round = 0; round < meter.rounds(); ++round)
        try {
            all.sum += co_await call<coroutines::task<std::uint64_t>>(calls, round, loop);
        } catch (const deep_error&) {
            ++all.errors;
        }
    meter.stop();
}

void coroutine_calls_that_throw(meter& meter, unsigned calls) {
    errors_caught all;
    coroutines::cancel_scope root;
    coroutines::group children{root, coroutines::errors::cancel_all};
    children.spawn(catch_errors(meter, calls, all));
    all.check(meter);
}

micro make(std::span<const unsigned> all_calls) {
    using pooled_task = coroutines::task<std::uint64_t>;
    micro result{"deep"};
    const auto add = [&](const micro_case& what, auto creel, auto pooled, auto malloced,
                         unsigned calls) {
        const auto with_calls = [calls](auto run) {
            return [=](meter& meter) { run(meter, calls); };
        };
        result.add("creel", contender, what, with_calls(creel));
        result.add("coroutine", control, what, with_calls(pooled));
        result.add("coroutine_malloc", control, what, with_calls(malloced));
    };
    for (const unsigned calls : all_calls)
        add({case_of(calls), 1}, creel_calls, coroutine_calls<pooled_task, no_turns, 1>,
            coroutine_calls<heap_task, no_turns, 1>, calls);
    for (const unsigned calls : all_calls) // both tasks take a value in a round
        add({case_of(calls) + "/wait", 2}, creel_calls_that_wait,
            coroutine_calls<pooled_task, turns, 2>, coroutine_calls<heap_task, turns, 2>, calls);
    return result;
}

micro make_with_errors() {
    micro result = make(depths);
    for (const unsigned calls : thrown_depths) {
        const micro_case what{case_of(calls) + "/throw", 1};
        result.add("creel", contender, what,
                   [calls](meter& meter) { creel_calls_that_throw(meter, calls); });
        result.add("coroutine", control, what,
                   [calls](meter& meter) { coroutine_calls_that_throw(meter, calls); });
    }
    return result;
}

const registration times{[] { return make_with_errors().family(); }};
const registration instructions{[] { return make(counted_depths).instruction_family(); }};

} // namespace
} // namespace creel::bench
