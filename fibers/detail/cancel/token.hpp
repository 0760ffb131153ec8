// What stands behind cancel_token: a state that its copies share, and a link from it to each scope
// that it cancels.
//
// A scope and its links belong to the thread that entered the scope; the state belongs to nobody.
// So a cancel from elsewhere only writes the state and sends each link home: to a scheduler's
// inbox, or, for a plain thread, by a poke at the futex it may sleep on. At home the scope takes
// over what the state says by then. Locks are never nested: what a cancel leads to (other scopes,
// other tokens) goes through a work list.
#pragma once

#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <memory>
#include <mutex>

namespace creel::detail {

// Made on the heap, because it may be on its way through an inbox when its scope is left.
struct token_link : inbox_node {
    std::shared_ptr<token_state> state{};
    scope_core* scope = nullptr;
    bool is_own = false;                 // the state is of scope's own token, and follows it
    token_link* next_of_scope = nullptr; // own thread

    // Guarded by the state's mutex.
    parker* owner = nullptr; // of the scope; null until it is entered
    token_link* previous = nullptr;
    token_link* next = nullptr;
    bool in_flight = false; // in the owner's inbox
    bool orphan = false;    // the scope was left meanwhile: whoever takes it out deletes it
};

struct token_state {
    // Takes over a cancel of the token, unless it says nothing new, and sends it on to all scopes.
    // Those of this thread take it at once, and are put on the work list. Threads: any.
    void request(const cancel_request& r, spread_work& work) noexcept;

    // The same for what the token's own scope has seen happen, by itself or from outside: that
    // scope is not told, for a cancel from outside is not its own. Threads: the scope's.
    void follow(const cancel_request& r, spread_work& work) noexcept;

    // True if it was cancelled itself, and not only its scope from outside. Threads: any.
    [[nodiscard]] bool was_cancelled() noexcept;

    // From the call of a cancel on, or once the deadline has passed; then it stays so: who asks
    // first fixes a deadline that has passed, and move_deadline() finds it fixed. Threads: any.
    [[nodiscard]] bool is_cancelled() noexcept;
    // False if the old deadline was seen to have passed. Threads: the scope's.
    [[nodiscard]] bool move_deadline(time_point deadline) noexcept;

    // Threads: the scope's.
    void add(token_link& link, parker* owner) noexcept;
    [[nodiscard]] cancel_request enter(token_link& link, parker& owner) noexcept;
    void enter_failed(token_link& link) noexcept;
    void remove(token_link& link) noexcept; // and deletes it, in the end
    [[nodiscard]] cancel_request current(const token_link& link) noexcept;

    // May be read without the mutex: it only ever tells of a cancel that has been called.
    std::atomic<cancel_level> level{cancel_level::none};

private:
    static constexpr time_point::rep no_deadline = time_point::max().time_since_epoch().count();
    static constexpr time_point::rep has_passed = time_point::min().time_since_epoch().count();

    void send(token_link& link, spread_work& work) noexcept;
    [[nodiscard]] const cancel_request& meant_for(const token_link& link) const noexcept {
        return link.is_own ? called_ : request_;
    }

    std::mutex mutex_;
    cancel_request called_;       // on the token
    cancel_request request_;      // on the token, or what its scope has seen
    token_link* links_ = nullptr; // oldest first, so that outer scopes come before inner ones
    token_link* last_link_ = nullptr;
    std::atomic<time_point::rep> deadline_{no_deadline};
};

} // namespace creel::detail
