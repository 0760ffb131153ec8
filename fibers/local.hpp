// A value that a fiber can read, with everything that the fiber calls and spawns, although no
// function passes it on: a request's id, a user, a log level.
//
//     const creel::local<std::string> request_id{"none"};
//     request_id.with("r-17", [&] {
//         log(request_id.get()); // "r-17", also deep below
//         connections.spawn([&] { log(request_id.get()); }); // and in this child: "r-17"
//     });
//
// A binding lasts as long as the call of with(). It cannot be changed, only hidden by an inner
// binding: a callee cannot surprise its caller (Java's scoped values, JEP 446, are the model). A
// child sees for its whole life the values that its spawner saw at the spawn. So does the handler
// of report() when the child fails, and so does the f of blocking(f). Several threads may read a
// value at once, and the last thread that holds it destroys it. A remote spawn sees the fallback.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

namespace creel {

namespace detail {

// One binding, shared by the call of with() and the fibers spawned in it; never changed. Bindings
// form a list that grows only at its head: each holds a reference to the binding around it.
struct local_binding {
    local_binding(const void* of, void (*destroy_this)(local_binding&) noexcept) noexcept
        : key(of), destroy(destroy_this) {}

    std::atomic<std::uint32_t> references{1};
    const void* key;
    void (*destroy)(local_binding&) noexcept;
    local_binding* outer = nullptr;
};

template <typename T>
struct local_value : local_binding {
    template <typename V>
    local_value(const void* of, V&& v)
        : local_binding(of,
                        [](local_binding& b) noexcept { delete static_cast<local_value*>(&b); }),
          value(std::forward<V>(v)) {}
    T value;
};

// Puts a binding in front of the caller's, until the end of its scope.
class bound_local {
public:
    explicit bound_local(local_binding& b) noexcept; // takes over the one reference
    ~bound_local();
    bound_local(const bound_local&) = delete;
    bound_local& operator=(const bound_local&) = delete;

private:
    local_binding** slot_;
};

// The caller's innermost binding of this key, or null.
[[nodiscard]] const local_binding* find_local(const void* key) noexcept;

[[nodiscard]] local_binding* share_locals(local_binding* first) noexcept;
void drop_locals(local_binding* first) noexcept;

} // namespace detail

// Usually a global. Neither copied nor moved: its address is the key. Threads: any.
template <typename T>
class local {
public:
    explicit constexpr local(T fallback = T{}) : fallback_(std::move(fallback)) {}
    local(const local&) = delete;
    local& operator=(const local&) = delete;

    // The value of the innermost with() around the caller; else the value that its spawner saw;
    // else the fallback. Valid until that with() ends, in a child until the child ends.
    // Parks: never. Threads: any. Cost: a few ns, and one more for each binding in force.
    [[nodiscard]] const T& get() const noexcept {
        const detail::local_binding* b = detail::find_local(this);
        return b != nullptr ? static_cast<const detail::local_value<T>*>(b)->value : fallback_;
    }

    // Binds the value, calls f, and returns the result of f. The value lives until f has returned
    // and every child spawned in f has ended. Its destructor must neither throw nor wait.
    // Parks: as f does. Threads: any. Throws: what f throws; std::bad_alloc. Cost: one allocation.
    template <typename V, typename F>
    decltype(auto) with(V&& value, F&& f) const {
        const detail::bound_local bound{*new detail::local_value<T>(this, std::forward<V>(value))};
        return std::invoke(std::forward<F>(f));
    }

private:
    T fallback_;
};

} // namespace creel
