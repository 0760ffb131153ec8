// The records of Boost's native fibers, by their contexts.
//
// Boost tells its algorithm of a fiber at a place where nothing may be thrown, and takes no
// refusal. So the memory of a record comes from a reserve of the process when malloc has none;
// beyond that the process ends, and says why. The chains of the map are allocated apart from the
// records: without memory the chains only get longer.
#pragma once

#include <creel/fibers/detail/run/fiber_record.hpp>

#include <cstddef>
#include <functional>
#include <new>
#include <unordered_map>
#include <utility>

namespace creel::detail {

// Blocks for records, in static memory. Threads: any.
struct native_reserve {
    static constexpr std::size_t blocks = 64;
    static constexpr std::size_t block_bytes = sizeof(fiber_record) + 64; // with a map's links

    // From malloc, else from the reserve. Ends the process when there is neither.
    [[nodiscard]] static void* allocate(std::size_t bytes) noexcept;
    static void deallocate(void* block) noexcept;
};

template <typename T>
struct native_allocator {
    using value_type = T;

    native_allocator() noexcept = default;
    template <typename U>
    native_allocator(const native_allocator<U>& /*other*/) noexcept {} // NOLINT: converts
    bool operator==(const native_allocator& /*other*/) const noexcept { return true; }

    // Records come one by one, and are never refused. Chains come in arrays, and may be refused.
    [[nodiscard]] T* allocate(std::size_t count) {
        if constexpr (sizeof(T) >= sizeof(fiber_record)) {
            static_assert(sizeof(T) <= native_reserve::block_bytes);
            return static_cast<T*>(native_reserve::allocate(count * sizeof(T)));
        } else {
            return static_cast<T*>(::operator new(count * sizeof(T)));
        }
    }
    void deallocate(T* memory, std::size_t /*count*/) noexcept {
        if constexpr (sizeof(T) >= sizeof(fiber_record))
            native_reserve::deallocate(memory);
        else
            ::operator delete(memory);
    }
};

// Threads: its scheduler's own.
class native_records {
public:
    using context = boost::fibers::context;

    // Throws: std::bad_alloc.
    native_records() {
        living_.max_load_factor(any_load);
        ended_.max_load_factor(any_load);
        living_.rehash(first_chains);
    }

    // The record of a native, and true if it is new.
    std::pair<fiber_record&, bool> of(context* c) noexcept;
    // Ends a record: `of` does not find it any more, but it exists until forget_ended().
    void end(context* c) noexcept { ended_.insert(living_.extract(c)); }

    template <typename Visit>
    void forget_ended(Visit last_use) noexcept {
        for (auto& [c, f] : ended_)
            last_use(f);
        ended_.clear();
    }

    [[nodiscard]] auto begin() noexcept { return living_.begin(); }
    [[nodiscard]] auto end() noexcept { return living_.end(); }
    [[nodiscard]] auto begin() const noexcept { return living_.begin(); }
    [[nodiscard]] auto end() const noexcept { return living_.end(); }
    void clear() noexcept { living_.clear(); }

private:
    // So that an insertion never makes chains by itself.
    static constexpr float any_load = 1e9F;
    static constexpr std::size_t first_chains = 64;

    using records = std::unordered_map<context*, fiber_record, std::hash<context*>, std::equal_to<>,
                                       native_allocator<std::pair<context* const, fiber_record>>>;
    records living_;
    records ended_; // few: until the dispatcher's next pass
};

} // namespace creel::detail
