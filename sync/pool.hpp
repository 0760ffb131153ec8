// A limited number of items that are expensive to make, each of which serves one user at a time:
// connections to a database, parsers, big buffers. An item is made when it is first needed, kept
// for the next user, and checked before reuse.
//
//     sync::pool<connection> connections{{.limit = 10,
//                                         .create = [&] { return connect(database); },
//                                         .is_valid = [](connection& c) { return !c.broken(); }}};
//     auto c = connections.acquire();   // waits while 10 are in use
//     c->query("...");                  // goes back at the end of c; or c.discard() drops it
//
// First come, first served. A caller whose turn has come makes its own item if none is idle, so a
// create that fails holds up no other caller.
#pragma once

#include <creel/fibers/assert.hpp>
#include <creel/fibers/wait_list.hpp>
#include <creel/sync/detail/lifo_store.hpp>
#include <creel/sync/semaphore.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace creel::sync {

template <typename T>
struct pool_options {
    std::size_t limit = 1;
    std::function<T()> create{};        // may wait; acquire() throws its error
    std::function<bool(T&)> is_valid{}; // none: every item is valid; may wait
    std::function<void(T&&)> dispose{}; // none: the destructor; must neither wait nor throw
};

struct pool_statistics {
    std::size_t limit = 0;
    std::size_t idle = 0;
    std::size_t in_use = 0; // leased, or being made
    std::size_t waiting = 0;
    std::uint64_t created = 0; // ever
};

template <typename T>
class pool {
    static_assert(std::is_nothrow_move_constructible_v<T>, "it goes back without throwing");

public:
    class lease;

    // Memory is taken as items are made, so a large limit costs nothing by itself.
    // Throws: std::bad_alloc. A limit of 0 or no way to create is a bug, and is caught.
    explicit pool(pool_options<T> options,
                  std::source_location made_at = std::source_location::current())
        : options_(std::move(options)),
          lock_("pool", made_at),
          idle_(options_.limit),
          permits_(options_.limit, made_at) {
        CREEL_ASSERT(options_.limit > 0 && options_.create,
                     lock_.says("it needs a limit above 0 and a create function").c_str());
    }
    pool(const pool&) = delete;
    pool& operator=(const pool&) = delete;
    // Disposes of the idle items. Destroying the pool while an item is in use is a bug, and is
    // caught.
    // Parks: never.
    ~pool() {
        const auto s = permits_.statistics();
        CREEL_ASSERT(s.available == s.permits,
                     lock_.says("destroyed while something of it is in use").c_str());
        while (idle_.size() != 0)
            idle_.take([&](T&& item) {
                if (options_.dispose)
                    options_.dispose(std::move(item));
            });
    }

    // Returns an idle item that is valid, preferring the item used last; else a new item.
    // Parks: while `limit` items are in use, first come, first served; and as create and is_valid
    // do. Cancel: yes, no item is held then. Threads: any. Throws: cancelled; the error of create
    // or is_valid; std::bad_alloc, before an item is created.
    [[nodiscard]] lease acquire() {
        permit right = permits_.hold();
        while (std::optional<T> item = take_idle()) {
            if (is_valid(*item))
                return lease{*this, std::move(*item), std::move(right)};
            dispose(std::move(*item));
        }
        return lease{*this, make(), std::move(right)};
    }

    // Parks: never. Threads: any.
    [[nodiscard]] pool_statistics statistics() const noexcept {
        const auto s = permits_.statistics();
        const std::lock_guard hold{lock_};
        return {options_.limit, idle_.size(), static_cast<std::size_t>(s.permits - s.available),
                s.waiting, created_};
    }

private:
    // The life of one item, of which at most `limit` exist:
    //
    //     (none) --1--> being made --2--> in use --4--> idle
    //        ^            |               | ^             |
    //        +-----3------+               | +-----5-------+
    //        +--------------6-------------+
    //
    //     1  take_idle(): none is idle. The caller holds a permit, and counts the item as existing.
    //     2  make(): create has returned.
    //     3  make(): create has thrown.
    //     4  give_back(): at the end of the lease; the permit goes back after the item.
    //     5  take_idle(): the item that was used last; is_valid looks at it next.
    //     6  dispose(): by discard(), or is_valid has refused the item or has thrown.

    // Empty: no item is idle, and the caller must make an item. That item is counted already, and
    // there is room to give it back. Throws: std::bad_alloc.
    std::optional<T> take_idle() {
        std::optional<T> item;
        typename detail::lifo_store<T>::room more; // allocated with the lock free
        std::unique_lock hold{lock_};
        while (idle_.size() == 0 && existing_ == idle_.ready()) {
            const std::size_t items = idle_.growth();
            hold.unlock();
            more = idle_.make_room(items);
            hold.lock();
            static_cast<void>(idle_.add(more));
        }
        if (idle_.size() == 0)
            ++existing_;
        else
            idle_.take([&](T&& idle) { item.emplace(std::move(idle)); });
        return item;
    }
    T make() {
        try {
            T made = options_.create();
            const std::lock_guard hold{lock_};
            ++created_;
            return made;
        } catch (...) {
            const std::lock_guard hold{lock_};
            --existing_;
            throw;
        }
    }
    bool is_valid(T& item) {
        if (!options_.is_valid)
            return true;
        try {
            return options_.is_valid(item);
        } catch (...) { // the item cannot be trusted
            dispose(std::move(item));
            throw;
        }
    }
    void dispose(T&& item) noexcept {
        if (options_.dispose)
            options_.dispose(std::move(item));
        const std::lock_guard hold{lock_};
        --existing_;
    }
    void give_back(T&& item) noexcept {
        const std::lock_guard hold{lock_};
        idle_.push(std::move(item)); // there is room for all items that exist
    }

    pool_options<T> options_;
    mutable wait_lock lock_;
    // Guarded by lock_, as the next two. An item exists only while a permit is held for it or it is
    // idle, so no more items exist than the limit.
    detail::lifo_store<T> idle_;
    std::size_t existing_ = 0; // idle, in use, or being made
    std::uint64_t created_ = 0;
    struct permits final : semaphore {
        permits(std::size_t limit, std::source_location made_at)
            : semaphore("pool", number(limit), number(limit), made_at) {}
        static std::ptrdiff_t number(std::size_t limit) noexcept {
            return static_cast<std::ptrdiff_t>(std::min(limit, static_cast<std::size_t>(max())));
        }
    };
    permits permits_; // one for each item in use; a caller with a permit may make a missing item
};

// An item in use. A lease can be moved, not copied. It must not outlive its pool.
template <typename T>
class pool<T>::lease {
public:
    lease(lease&& other) noexcept
        : from_(std::exchange(other.from_, nullptr)),
          item_(std::move(other.item_)),
          right_(std::move(other.right_)) {}
    lease& operator=(lease&&) = delete;
    // Gives the item back, for the next caller that waits. Parks: never.
    ~lease() {
        if (from_ != nullptr)
            from_->give_back(std::move(item_)); // before the permit goes back
    }

    // Using a lease that was moved from or discarded is a bug, and is caught.
    [[nodiscard]] T& operator*() noexcept {
        CREEL_ASSERT(from_ != nullptr, "this lease of a pool was moved from, or discarded");
        return item_;
    }
    [[nodiscard]] T* operator->() noexcept { return std::addressof(**this); }

    // For a broken item: disposes of it instead of giving it back. A second call does nothing.
    // Parks: never.
    void discard() noexcept {
        if (from_ == nullptr)
            return;
        {
            T last{std::move(item_)}; // ends here, before another item may be made in its place
            std::exchange(from_, nullptr)->dispose(std::move(last));
        }
        right_.release();
    }

private:
    friend class pool;
    lease(pool& from, T&& item, permit&& right) noexcept
        : from_(&from), item_(std::move(item)), right_(std::move(right)) {}

    pool* from_;
    T item_;
    permit right_;
};

} // namespace creel::sync
