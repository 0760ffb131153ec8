// The core of a cancel_token: a state that the copies of a token share, and a link from the state
// to each scope that the token cancels.
//
// A scope and its links belong to the thread that entered the scope. The state belongs to no
// thread. So a cancel from another thread only writes the state, and sends each link to the home of
// its scope: to a scheduler's inbox or, for a plain thread, by a poke at the futex that the thread
// may sleep on. There the scope takes over the cancel that the state holds by then. Locks are never
// nested: the effects of a cancel (on other scopes, on other tokens) go through a work list.
//
// The states of a link:
//
//     transition               function
//     1  made -> listed        token_state::add(), from scope_core::link(): the state knows it
//     2  listed -> active      token_state::enter(), or add() itself if the scope is entered
//                              already: `owner` is set, and cancels are sent to the scope
//     3  active -> in flight   token_state::send(), on another thread than the owner's: the link is
//                              in the inbox of the owner's scheduler
//     4  in flight -> active   the delivery, by that scheduler: the scope takes the cancel
//     5  active -> listed      token_state::enter_failed(): no memory for the scope's timer
//     6  listed, active        token_state::remove(), from scope_core::drop_links(), when the scope
//        -> deleted            is left or destroyed
//     7  in flight -> orphan   the same
//     8  orphan -> deleted     the delivery: the scope may be destroyed, and is not touched
//
// A second cancel finds a link in flight and does not send it again: the delivery reads the state
// of that time.
#pragma once

#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <memory>
#include <mutex>

namespace creel::detail {

// It is on the heap, because it may be in an inbox when its scope is left.
struct token_link : inbox_node {
    std::shared_ptr<token_state> state{};
    scope_core* scope = nullptr;
    bool is_own = false;                 // the state is that of the scope's own token
    token_link* next_of_scope = nullptr; // own thread

    // Guarded by the state's mutex.
    parker* owner = nullptr; // of the scope; null until the scope is entered
    token_link* previous = nullptr;
    token_link* next = nullptr;
    bool in_flight = false; // in the owner's inbox
    bool orphan = false;    // the scope was left meanwhile: the delivery deletes the link
};

struct token_state {
    // A cancel of the token: takes it over, unless it says nothing new, and sends it to all scopes.
    // The scopes of this thread take it at once and go on the work list. Threads: any.
    void request(const cancel_request& r, spread_work& work) noexcept;

    // The same for a cancel that the token's own scope has seen, its own or from outside. That
    // scope is not told: a cancel from outside is not its own. Threads: the scope's.
    void follow(const cancel_request& r, spread_work& work) noexcept;

    // True if the token itself was cancelled, and not only its scope from outside. Threads: any.
    [[nodiscard]] bool was_cancelled() noexcept;

    // True from the call of a cancel on, or once the deadline of its scope has passed. Then it
    // stays true: the first call that finds the deadline passed fixes it, and move_deadline() finds
    // it fixed. Threads: any.
    [[nodiscard]] bool is_cancelled() noexcept;
    // False if a call of is_cancelled() has found the old deadline passed. Threads: the scope's.
    [[nodiscard]] bool move_deadline(time_point deadline) noexcept;

    // The states of a link, see above. enter() and current() return the cancel that its scope is to
    // take. Threads: the scope's.
    void add(token_link& link, parker* owner) noexcept;
    [[nodiscard]] cancel_request enter(token_link& link, parker& owner) noexcept;
    void enter_failed(token_link& link) noexcept;
    void remove(token_link& link) noexcept;
    [[nodiscard]] cancel_request current(const token_link& link) noexcept;

    // The level of `request_`. It may be read without the mutex, because it tells only of a cancel
    // that has been called.
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
