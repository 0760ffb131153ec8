// The record of a task: a spawned closure in a recycled node. A fiber runs it when its turn comes.
//
// Its `parent` is the nursery that it was spawned into, from submit() to child_ended(); take_over()
// moves it to another. The states:
//
//     made ------------- 1 --> queued
//     queued ----------- 2 --> running
//     running ---------- 3 --> done
//     queued ----------- 4 --> in line           5 goes back
//     in line, queued -- 6 --> dropped
//     dropped ---------- 3 --> done
//     queued ----------- 7 --> awaiting memory   8 goes back
//
//     made      spawn() constructs the closure in it
//     queued    in the scheduler's ready queue; it has no fiber (`runner` is null)
//     in line   its turn has come, but there are max_fibers: in the scheduler's line until a fiber
//               ends or rests
//     awaiting memory   there is no memory for its stack: until the carriers that are ending have
//                       ended
//     dropped   it will not run; among the scheduler's dropped tasks
//     running   bound to `runner`, which calls the closure
//     done      the closure is destroyed, the nursery told, and the node is a warm task or back in
//               the pool (that of async() only when its handle is destroyed, too)
//     1  nursery_core::submit(), submit_warm(), adopt()
//     2  scheduler::give(), from bind(), rest() and take_next_task()
//     3  scheduler::end_task(), end_with(): the closure has ended, or a cancel has come before it
//        began; a dropped task: end_dropped(), by the reserve fiber or between two switches
//     4  scheduler::wait_in_line()
//     5  scheduler::call_from_line(): queued again, in front
//     6  scheduler::drop(), from drop_from_line(): cancelled while in line; or directly from
//        `queued`: no memory for its stack, or no fiber is free and its nursery is cancelled
//     7  scheduler::bind_new(): it waits for the stacks of carriers that are ending
//     8  scheduler::carrier_ended()
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace creel::detail {

struct fiber_record;
struct local_binding;
struct nursery_core;
struct task_result;

// A link of the scheduler's ready queue. The queue holds fibers, tasks that have not started, and a
// marker behind everything that was ready at the last poll.
struct runnable {
    enum class kind_type : std::uint8_t { fiber, task, marker };

    explicit runnable(kind_type k) noexcept : kind(k) {}

    runnable* next_ready = nullptr;
    kind_type kind;
};

// Tells the children of one call of all() or race() apart ("race #2"), because their spawn sites
// are the same line of creel: a function that takes any number of functions can take no
// source_location after them. Number 0: no label.
struct task_label {
    const char* call = "";
    std::size_t number = 0;
};

// The functions of a closure of one type.
struct closure_kind {
    void (*invoke)(void* closure);
    void (*destroy)(void* closure) noexcept; // null: it owns nothing
    task_label label{};                      // of tasks that were given no name
};

// The label of tasks that run an F and were given no name; for closures of our own.
template <typename F>
inline constexpr task_label default_label{};

// The closure that spawn() puts into a node.
template <typename F>
struct spawned_closure {
    template <typename G>
    explicit spawned_closure(G&& g) noexcept(std::is_nothrow_constructible_v<F, G&&>) // NOLINT
        : f(std::forward<G>(g)) {}
    spawned_closure(const spawned_closure&) = delete;
    spawned_closure& operator=(const spawned_closure&) = delete;

    static constexpr closure_kind kind{
        [](void* c) { static_cast<void>(std::invoke(static_cast<spawned_closure*>(c)->f)); },
        std::is_trivially_destructible_v<F>
            ? nullptr
            : +[](void* c) noexcept { std::destroy_at(static_cast<spawned_closure*>(c)); },
        default_label<F>};

    F f;
};

// Its size is a multiple of its alignment, so a closure of the usual alignment follows it directly.
struct alignas(std::max_align_t) task_record : runnable {
    static std::size_t node_size(std::size_t closure_bytes, std::size_t align) noexcept {
        // An alignment that operator new and the pool keep needs no slack; powers of two need no
        // division.
        const std::size_t slack = align > alignof(std::max_align_t) ? align : 0;
        return sizeof(task_record) + align - 1 + slack + closure_bytes;
    }
    // Makes a record in a node of at least node_size(). `granted`: the size that the pool gets
    // back.
    static task_record* place(void* node, std::uint32_t granted, std::size_t align,
                              std::source_location where) noexcept {
        task_record* t = ::new (node) task_record(where);
        t->node_bytes = granted;
        const auto start = reinterpret_cast<std::uintptr_t>(node);
        t->offset = static_cast<std::uint32_t>(
            ((start + sizeof(task_record) + align - 1) & ~(align - 1)) - start);
        return t;
    }

    // The given name, or the label, which is made when it is first asked for: so the spawn of a
    // labelled task is as cheap as others. A label of 15 characters allocates nothing.
    // Threads: own. Not in a handler of SIGSEGV: it may write.
    [[nodiscard]] std::string_view name() const noexcept {
        if (const task_label& l = kind_of_closure->label; l.number != 0 && given_name.empty())
            given_name.append(l.call).append(" #").append(std::to_string(l.number));
        return given_name;
    }
    [[nodiscard]] void* closure() noexcept { return reinterpret_cast<std::byte*>(this) + offset; }
    void destroy_closure() noexcept {
        if (kind_of_closure->destroy != nullptr)
            kind_of_closure->destroy(closure());
    }

    bool in_line = false;            // see above
    bool was_called = false;         // from the line, and has not run yet
    bool no_memory = false;          // for its stack: it is dropped for that
    bool is_background = false;      // see spawn_options
    std::uint32_t node_bytes = 0;    // what the pool handed out
    std::uint32_t offset = 0;        // from the node to the closure
    std::size_t stack_bytes = 0;     // needed
    task_record* previous = nullptr; // among the nursery's children
    task_record* next = nullptr;
    nursery_core* parent = nullptr;
    fiber_record* runner = nullptr;
    const closure_kind* kind_of_closure = nullptr;
    task_result* result = nullptr; // of async(): in this node, which it keeps while it has a handle
    std::uint64_t id = 0;
    task_record* previous_in_line = nullptr;
    local_binding* locals = nullptr; // those of its spawner, then its own; it holds a reference
    std::source_location spawned_at;
    mutable std::string given_name{};

private:
    explicit task_record(std::source_location where) noexcept
        : runnable(kind_type::task), spawned_at(where) {}
};

// The size of a warm task: a node that most tasks fit into, and that the scheduler keeps as a
// record. fits_warm_task: the closure fits into any of them, and making it can neither fail nor
// call anything.
inline constexpr std::uint32_t warm_task_bytes = 192;
template <typename F, typename From>
inline constexpr bool fits_warm_task =
    std::is_trivially_constructible_v<F, From> && alignof(F) <= alignof(task_record) &&
    sizeof(task_record) + sizeof(spawned_closure<F>) <= warm_task_bytes;

} // namespace creel::detail
