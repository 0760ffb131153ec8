// A nursery owns fibers: with_nursery() returns only when every child it spawned has ended.
//
//     creel::with_nursery([&](creel::nursery& n) {
//         n.spawn([&] { left = fetch(a); });
//         n.spawn({.name = "right"}, [&] { right = fetch(b); });
//     }); // both are done here
//
// The first failure, of a child or of the body, cancels the rest; all are awaited; then the error
// is rethrown (several become an exception_group). So no fiber is ever lost, nor its error.
// Nathaniel J. Smith, "Notes on structured concurrency", 2018, is the idea's best account.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/task.hpp>
#include <creel/fibers/task.hpp>
#include <creel/fibers/task_info.hpp>

#include <cstddef>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace creel {

// What a failing child does to its nursery.
class error_policy {
public:
    enum class kind_type : unsigned char { cancel, collect, report };
    using handler = std::function<void(std::exception_ptr, const task_info&)>;

    // The default: the first failure cancels the siblings.
    error_policy() = default;

    [[nodiscard]] kind_type kind() const noexcept { return kind_; }

private:
    friend error_policy collect();
    friend error_policy report(handler);
    friend struct detail::nursery_core;

    kind_type kind_ = kind_type::cancel;
    handler handler_{};
};

// Siblings go on; all errors are thrown at the end: one as it is, several as an exception_group.
// For groups of bounded size, for all of them are kept until then.
[[nodiscard]] error_policy collect();

// For servers: a child's error goes to the handler at once, is stored nowhere and cancels nobody;
// without a handler one line goes to stderr. The body's own error still cancels the children and
// is thrown. The handler runs on the failed child's fiber (for a child that never got a stack, on
// that of the nursery's opener) and may wait; a cancel ends it quietly, any other exception of its
// own ends the process.
[[nodiscard]] error_policy report(error_policy::handler handler = {});

struct nursery_options {
    error_policy on_error{};
    std::string_view name{}; // for list_fibers(); must outlive the nursery
};

// Of one fiber.
inline constexpr std::size_t most_stack_bytes = std::size_t{1} << 30;

struct spawn_options {
    std::string_view name{};     // for this_fiber::name(), the dump and error messages; copied
    std::size_t stack_bytes = 0; // 0: the scheduler's default; rounded up to a power of two of at
                                 // least 16 KiB; above 1 GiB spawn throws std::bad_alloc
};

class nursery;

namespace detail {

struct nursery_access;

// The untyped half of a nursery: children, errors and the wait for the last child.
struct nursery_core {
    nursery_core(error_policy on_error, std::string_view name, std::source_location where);
    ~nursery_core();
    nursery_core(const nursery_core&) = delete;
    nursery_core& operator=(const nursery_core&) = delete;

    // A node with room for a closure, not yet a child; null if the nursery is cancelled, and spawn
    // then drops its closure. Throws std::bad_alloc.
    task* make_task(const spawn_options& options, std::size_t closure_bytes,
                    std::size_t closure_align, std::source_location where);
    void discard_task(task& t) noexcept; // a made task that will not be submitted
    void submit(task& t) noexcept;       // becomes the youngest child and is queued
    void submit(task& t, task_result& r) noexcept;

    [[nodiscard]] bool cancelled_for_children() const noexcept;

    // Notes how a child (null: the body) failed; then, for a child, that it has ended.
    void failed(std::exception_ptr error, bool was_cancelled, const task* child) noexcept;
    void child_ended(task& t) noexcept;
    // A child that will never have a stack; who waits for it, in join() or get(), reports that.
    void child_starved(task& t) noexcept;
    void fail_starved() noexcept; // on the calling fiber

    // Does this waiter wait for a nursery's children?
    static bool is_join(const waiter& w) noexcept;

    // Waits for all children, leaves the scope, throws what is to be thrown. False: a cancel was
    // absorbed here.
    bool join();
    [[noreturn]] void throw_absorbed() const;

    cancel_scope scope;
    parker* opener;
    task* first_child = nullptr;
    task* last_child = nullptr;
    std::size_t children = 0;
    runnable* starved = nullptr;            // children given up for want of a stack, linked
    waiter* joiner = nullptr;               // parked in join()
    nursery_core* next_to_spread = nullptr; // scratch of the walk that spreads a cancel
    std::vector<std::exception_ptr> errors{};
    std::exception_ptr a_cancelled{}; // one `cancelled` that a member ended with
    error_policy policy;
    std::string_view name;
    std::source_location where;
    bool open = true; // false once join() has seen the last child
};

} // namespace detail

class nursery {
public:
    nursery(const nursery&) = delete;
    nursery& operator=(const nursery&) = delete;

    // Starts f() as a child, which runs when its turn comes, in the order of spawning. f's result
    // is ignored; its exception goes to the nursery. In a cancelled nursery f does not run, and is
    // destroyed before spawn returns (a socket moved into it closes).
    // f's destructor must neither throw nor wait.
    // Parks: never. Threads: the nursery's; by the body, a child, or something they wait for.
    // Throws: std::bad_alloc, and what moving f in throws. Cost: tens of ns; no malloc for closures
    // up to 480 bytes and names up to 15 characters.
    template <typename F>
    void spawn(F&& f, std::source_location where = std::source_location::current()) {
        spawn(spawn_options{}, std::forward<F>(f), where);
    }
    template <typename F>
    void spawn(spawn_options options, F&& f,
               std::source_location where = std::source_location::current()) {
        using function = std::decay_t<F>;
        static_assert(std::is_invocable_v<function&>, "spawn takes a function of no arguments");
        using closure = detail::spawned_closure<function>;
        if (detail::task* t = make_child<closure, F>(options, where, f)) [[likely]]
            core_.submit(*t);
    }

    // The same, and returns a handle by which the result of f is fetched. An error of f goes to the
    // nursery all the same; get() then rethrows it, and it counts once.
    // Parks: as spawn. Threads: as spawn. Throws: as spawn. Cost: as spawn; the result lies in the
    // child's node.
    template <typename F>
    auto async(F&& f, std::source_location where = std::source_location::current()) {
        return async(spawn_options{}, std::forward<F>(f), where);
    }
    template <typename F>
    auto async(spawn_options options, F&& f,
               std::source_location where = std::source_location::current()) {
        using function = std::decay_t<F>;
        static_assert(std::is_invocable_v<function&>, "async takes a function of no arguments");
        using result = std::remove_cvref_t<std::invoke_result_t<function&>>;
        using closure = detail::async_closure<function, result>;
        detail::task* t = make_child<closure, F>(options, where, f);
        if (t == nullptr) [[unlikely]]
            return task<result>{detail::task_result::never_started()};
        detail::task_result& r = static_cast<closure*>(t->closure())->result;
        core_.submit(*t, r);
        return task<result>{r};
    }

    // Ends the group early: children and body see `cancelled`, and with_nursery absorbs it. With a
    // grace they see it only when that has passed, see cancel_scope::cancel; until then spawn goes
    // on as before. Idempotent. Threads: the nursery's. Does not switch.
    void cancel(std::string text = {}, duration grace = {}) {
        core_.scope.cancel(std::move(text), grace);
    }

    // Cancels it from any thread: <cancel_token.hpp>. Threads: the nursery's. Throws:
    // std::bad_alloc.
    [[nodiscard]] cancel_token token();

    // The scope its children live in: for its deadline, shielding, or asking.
    [[nodiscard]] cancel_scope& scope() noexcept { return core_.scope; }

    // Children that have not ended.
    [[nodiscard]] std::size_t children() const noexcept { return core_.children; }

private:
    friend struct detail::nursery_access;

    nursery(nursery_options options, std::source_location where)
        : core_(std::move(options.on_error), options.name, where) {}
    explicit nursery(std::source_location where) : core_({}, {}, where) {}

    // A child that is not submitted yet; null if the nursery is cancelled, and f has gone then.
    template <typename Closure, typename F>
    detail::task* make_child(const spawn_options& options, std::source_location where,
                             std::remove_reference_t<F>& f) {
        detail::task* t = core_.make_task(options, sizeof(Closure), alignof(Closure), where);
        if (t == nullptr) [[unlikely]] {
            [[maybe_unused]] std::decay_t<F> dropped(std::forward<F>(f));
            return nullptr;
        }
        if constexpr (std::is_nothrow_constructible_v<Closure, F&&>) {
            ::new (t->closure()) Closure(std::forward<F>(f));
        } else {
            try {
                ::new (t->closure()) Closure(std::forward<F>(f));
            } catch (...) {
                core_.discard_task(*t);
                throw;
            }
        }
        t->kind_of_closure = &Closure::kind;
        return t;
    }

    detail::nursery_core core_;
};

namespace detail {

struct nursery_access {
    static nursery open(nursery_options options, std::source_location where) {
        return nursery{std::move(options), where};
    }
    static nursery open(std::source_location where) { return nursery{where}; }
    static nursery_core& core(nursery& n) noexcept { return n.core_; }

    template <typename Body>
    static auto run(nursery& n, Body& body)
        -> std::remove_cvref_t<std::invoke_result_t<Body&, nursery&>> {
        using result = std::invoke_result_t<Body&, nursery&>;
        if constexpr (std::is_void_v<result>) {
            try {
                body(n);
            } catch (const cancelled&) {
                n.core_.failed(std::current_exception(), true, nullptr);
            } catch (...) {
                n.core_.failed(std::current_exception(), false, nullptr);
            }
            static_cast<void>(n.core_.join());
        } else {
            std::optional<std::remove_cvref_t<result>> value;
            try {
                value.emplace(body(n));
            } catch (const cancelled&) {
                n.core_.failed(std::current_exception(), true, nullptr);
            } catch (...) {
                n.core_.failed(std::current_exception(), false, nullptr);
            }
            static_cast<void>(n.core_.join());
            if (!value)
                n.core_.throw_absorbed();
            return std::move(*value);
        }
    }
};

} // namespace detail

// Runs body(nursery&), waits for every child, returns body's value or throws. See above.
// Parks: until all children have ended; that wait is not cancellable, the children are. Cancel: a
// cancel of the nursery itself is absorbed here; a non-void body that was cut short by it gives
// task_cancelled. Threads: those with a scheduler. Throws: what body and children throw.
template <typename Body>
auto with_nursery(nursery_options options, Body&& body,
                  std::source_location where = std::source_location::current())
    -> std::remove_cvref_t<std::invoke_result_t<Body&, nursery&>> {
    nursery n = detail::nursery_access::open(std::move(options), where);
    return detail::nursery_access::run(n, body);
}

template <typename Body>
auto with_nursery(Body&& body, std::source_location where = std::source_location::current())
    -> std::remove_cvref_t<std::invoke_result_t<Body&, nursery&>> {
    nursery n = detail::nursery_access::open(where);
    return detail::nursery_access::run(n, body);
}

} // namespace creel
