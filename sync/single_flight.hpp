// One computation for all callers that ask for the same key at the same time: a cache miss does not
// become a hundred equal queries.
//
//     sync::single_flight<std::string, page> fetches;
//     page p = fetches.run(url, [&] { return fetch(url); });
//
// The first caller computes, on its own fiber. The others wait, and get a copy of its value, or its
// error. If it is cancelled, the caller that has waited longest computes instead, with its own
// function. No value is kept: a caller that asks while no other caller computes must compute.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/sync/detail/flight.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace creel::sync {

template <typename K, std::copy_constructible V, typename Hash = std::hash<K>,
          typename Equal = std::equal_to<K>>
class single_flight {
public:
    explicit single_flight(std::source_location made_at = std::source_location::current())
        : core_(made_at) {}

    // The value of f() for `key`, run by this caller or by another that asks for the key now.
    // Asking for the same key inside f is a bug, and is caught. In a child of f such a call waits
    // for itself until a cancel, and debug mode says so. Equal is called with the primitive's lock
    // held, so it must not wait.
    // Parks: until there is a value, or as f does. Cancel: yes; when a waiting caller is cancelled,
    // only that caller leaves, and when the computing caller is cancelled, another takes over.
    // Threads: any.
    // Throws: cancelled; the error of the f that was run; std::bad_alloc. Cost: the primitive's
    // lock, twice, and an allocation for the value; if many keys are in flight, 8 to 16 bytes for
    // each, until none is.
    template <std::invocable F>
    V run(const K& key, F&& f) {
        check_cancel();
        detail::flight mine{core_, &key, Hash{}(key), [](const void* a, const void* b) {
                                return Equal{}(*static_cast<const K*>(a),
                                               *static_cast<const K*>(b));
                            }};
        if (core_.join(mine)) {
            const detail::landing end{core_, mine};
            try {
                mine.value = std::make_shared<const V>(std::invoke(f));
            } catch (const cancelled&) {
                throw; // mine.value and mine.error are null: another caller takes over
            } catch (...) {
                mine.error = std::current_exception();
                throw;
            }
            return *std::static_pointer_cast<const V>(mine.value);
        }
        if (mine.error != nullptr)
            std::rethrow_exception(mine.error);
        return *std::static_pointer_cast<const V>(mine.value);
    }

    // The number of keys that are computed now. Parks: never. Threads: any.
    [[nodiscard]] std::size_t in_flight() const noexcept { return core_.in_flight(); }
    // Threads: any.
    [[nodiscard]] single_flight_statistics statistics() const noexcept {
        return core_.statistics();
    }

private:
    detail::flight_core core_;
};

} // namespace creel::sync
