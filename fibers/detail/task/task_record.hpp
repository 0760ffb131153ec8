// A task: what was spawned. A closure in a recycled node, run by a fiber when its turn comes.
//
// Owner: the nursery it was spawned into, from submit() to child_ended(). States, in order:
//   made      spawn() is constructing the closure in it
//   queued    in the scheduler's ready queue; no fiber yet (`runner` is null)
//   in line   its turn has come, but there are max_fibers: in the scheduler's line until one ends,
//             and then queued again, in front
//   dropped   it will not run: cancelled while in line, or there is no memory for its stack. Among
//             the scheduler's dropped tasks, until the reserve fiber ends it
//   running   bound to `runner`, which calls the closure
//   done      closure destroyed, nursery told, node returned to the pool (that of async() when its
//             handle has gone too)
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

// A link of the scheduler's ready queue, which holds fibers and unstarted tasks alike, and a marker
// behind what was ready at the last poll.
struct runnable {
    enum class kind_type : std::uint8_t { fiber, task, marker };

    explicit runnable(kind_type k) noexcept : kind(k) {}

    runnable* next_ready = nullptr;
    kind_type kind;
};

// Tells the children of one call of all() or race() apart, "race #2", for their spawn sites are one
// line of ours: a function that takes any number of functions can take no source_location after
// them. Number 0: no label.
struct task_label {
    const char* call = "";
    std::size_t number = 0;
};

// What can be done to a closure of one type.
struct closure_kind {
    void (*invoke)(void* closure);
    void (*destroy)(void* closure) noexcept; // null: it owns nothing
    task_label label{};                      // of tasks that were given no name
};

// Of tasks that run an F and were given no name; for closures of our own.
template <typename F>
inline constexpr task_label default_label{};

// What spawn() puts into a node.
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

// Its size is a multiple of its alignment, so a closure of usual alignment follows it directly.
struct alignas(std::max_align_t) task_record : runnable {
    // In a node of at least node_size(), of which `granted` is what the pool must get back.
    static std::size_t node_size(std::size_t closure_bytes, std::size_t align) noexcept {
        // What operator new and the pool align for needs no slack; powers of two need no division.
        const std::size_t slack = align > alignof(std::max_align_t) ? align : 0;
        return sizeof(task_record) + align - 1 + slack + closure_bytes;
    }
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
    // labelled task is one of the cheap ones. A label of 15 characters allocates nothing.
    // Threads: own, also in a handler of SIGSEGV.
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
    std::uint32_t node_bytes = 0;    // what the pool handed out
    std::uint32_t offset = 0;        // from the node to the closure
    std::size_t stack_bytes = 0;     // needed
    task_record* previous = nullptr; // among the nursery's children
    task_record* next = nullptr;
    nursery_core* parent = nullptr;
    fiber_record* runner = nullptr;
    const closure_kind* kind_of_closure = nullptr;
    task_result* result = nullptr; // of async(): in this node, which it keeps while it is asked for
    std::uint64_t id = 0;
    task_record* previous_in_line = nullptr;
    local_binding* locals = nullptr; // what its spawner saw, then its own; we hold a reference
    std::source_location spawned_at;
    mutable std::string given_name{};

private:
    explicit task_record(std::source_location where) noexcept
        : runnable(kind_type::task), spawned_at(where) {}
};

// The nodes that most tasks fit into, of which the scheduler keeps some as tasks. A closure that
// goes into any of them, and whose making can neither fail nor call anything:
inline constexpr std::uint32_t warm_task_bytes = 192;
template <typename F, typename From>
inline constexpr bool fits_warm_task =
    std::is_trivially_constructible_v<F, From> && alignof(F) <= alignof(task_record) &&
    sizeof(task_record) + sizeof(spawned_closure<F>) <= warm_task_bytes;

} // namespace creel::detail
