// A handle with which any thread spawns into a nursery.
//
//     std::jthread other{[entry = n.remote()] {
//         if (!entry.spawn([] { work(); }))
//             log("too late");
//     }};
//
// The handle does not keep the nursery open, and may outlive it, its run and its thread.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/detail/nursery/remote_entry.hpp>
#include <creel/fibers/spawn_options.hpp>

#include <source_location>
#include <type_traits>
#include <utility>

namespace creel {

class nursery;

class remote_nursery {
public:
    remote_nursery(const remote_nursery& other) noexcept : entry_(other.entry_) {
        entry_->add_reference();
    }
    remote_nursery& operator=(const remote_nursery& other) noexcept {
        remote_nursery copy{other};
        std::swap(entry_, copy.entry_);
        return *this;
    }
    ~remote_nursery() { entry_->drop_reference(); }

    // Runs f() as a child, on the nursery's own thread. False if the nursery is closed, cancelled
    // or has max_children: then f does not run, and is destroyed before spawn returns. If the
    // nursery is cancelled later, before f has started, it drops f as it drops any child. That also
    // happens if this thread has cancelled a scope around the nursery and the nursery's thread does
    // not know it yet (spawn knows of a cancel of the nursery's own token() at once).
    // Parks: never. Threads: any. Throws: std::bad_alloc, and what moving f in throws.
    // Cost: an allocation and a lock; a wake if the nursery's thread sleeps.
    template <typename F>
    [[nodiscard]] bool spawn(F&& f,
                             std::source_location where = std::source_location::current()) const {
        return spawn(spawn_options{}, std::forward<F>(f), where);
    }
    template <typename F>
    [[nodiscard]] bool spawn(spawn_options options, F&& f,
                             std::source_location where = std::source_location::current()) const {
        using function = std::decay_t<F>;
        static_assert(std::is_invocable_v<function&>, "spawn takes a function of no arguments");
        using closure = detail::spawned_closure<function>;
        detail::task_record* t =
            entry_->make_task(options, sizeof(closure), alignof(closure), where);
        if (t == nullptr) {
            [[maybe_unused]] function dropped(std::forward<F>(f));
            return false;
        }
        try {
            ::new (t->closure()) closure(std::forward<F>(f));
        } catch (...) {
            detail::remote_entry::discard_task(*t);
            throw;
        }
        t->kind_of_closure = &closure::kind;
        return entry_->submit(*t);
    }

private:
    friend class nursery;

    explicit remote_nursery(detail::remote_entry& entry) noexcept : entry_(&entry) {
        entry_->add_reference();
    }

    detail::remote_entry* entry_; // never null: a move is a copy
};

} // namespace creel
