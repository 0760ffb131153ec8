#include <creel/fibers/detail/cancel/token.hpp>

#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <utility>

namespace creel::detail {

namespace {

bool is_own_thread(const parker& owner) noexcept {
    return owner.home != nullptr ? owner.home == this_scheduler : &owner == &this_thread_parker();
}

} // namespace

void token_state::request(const cancel_request& r, spread_work& work) noexcept {
    const std::lock_guard lock{mutex_};
    if (!called_.rise_to(r))
        return;
    static_cast<void>(request_.rise_to(r));
    level.store(request_.level, std::memory_order_release); // pairs with cancel_token::cancelled()
    for (token_link* l = links_; l != nullptr; l = l->next)
        send(*l, work);
}

void token_state::follow(const cancel_request& r, spread_work& work) noexcept {
    const std::lock_guard lock{mutex_};
    if (!request_.rise_to(r))
        return;
    level.store(request_.level, std::memory_order_release);
    for (token_link* l = links_; l != nullptr; l = l->next)
        if (!l->is_own)
            send(*l, work);
}

bool token_state::was_cancelled() noexcept {
    if (level.load(std::memory_order_acquire) != cancel_level::cancelled)
        return false;
    const std::lock_guard lock{mutex_};
    return called_.level == cancel_level::cancelled;
}

bool token_state::is_cancelled() noexcept {
    if (level.load(std::memory_order_acquire) != cancel_level::none)
        return true;
    time_point::rep known = deadline_.load(std::memory_order_relaxed);
    for (;;) {
        if (known == no_deadline)
            return false;
        if (known == has_passed)
            return true;
        if (now() < time_point{duration{known}})
            return false;
        // relaxed, as in move_deadline: only the order of the changes of this one word counts.
        if (deadline_.compare_exchange_weak(known, has_passed, std::memory_order_relaxed))
            return true;
    }
}

bool token_state::move_deadline(time_point deadline) noexcept {
    time_point::rep known = deadline_.load(std::memory_order_relaxed);
    do {
        if (known == has_passed)
            return false;
    } while (!deadline_.compare_exchange_weak(known, deadline.time_since_epoch().count(),
                                              std::memory_order_relaxed));
    return true;
}

// With the mutex held. The scope of a listed link is not left yet, because remove() takes the same
// mutex. So the owner's run goes on, and its inbox will be drained.
void token_state::send(token_link& link, spread_work& work) noexcept {
    if (link.owner == nullptr)
        return; // not entered yet: enter() looks
    if (is_own_thread(*link.owner)) {
        if (link.scope->take(meant_for(link)))
            work.add_changed(*link.scope);
    } else if (link.owner->home == nullptr) {
        poke(static_cast<thread_parker&>(*link.owner));
    } else if (!link.in_flight) {
        link.in_flight = true;
        link.deliver = [](inbox_node& node) noexcept {
            auto& delivered = static_cast<token_link&>(node);
            token_state& state = *delivered.state;
            bool orphan = false;
            {
                const std::lock_guard lock{state.mutex_};
                delivered.in_flight = false;
                orphan = delivered.orphan;
            }
            if (orphan) {
                delete &delivered;
                return;
            }
            delivered.scope->request(state.current(delivered));
        };
        link.owner->home->incoming().post(link);
    }
}

void token_state::add(token_link& link, parker* owner) noexcept {
    const std::lock_guard lock{mutex_};
    link.owner = owner;
    link.previous = last_link_;
    (last_link_ != nullptr ? last_link_->next : links_) = &link;
    last_link_ = &link;
}

cancel_request token_state::enter(token_link& link, parker& owner) noexcept {
    const std::lock_guard lock{mutex_};
    link.owner = &owner;
    return meant_for(link);
}

// As if the scope had never been entered. A link that was posted meanwhile finds a scope that is
// not entered.
void token_state::enter_failed(token_link& link) noexcept {
    const std::lock_guard lock{mutex_};
    link.owner = nullptr;
}

void token_state::remove(token_link& link) noexcept {
    bool in_flight = false;
    {
        const std::lock_guard lock{mutex_};
        (link.previous != nullptr ? link.previous->next : links_) = link.next;
        (link.next != nullptr ? link.next->previous : last_link_) = link.previous;
        in_flight = link.in_flight;
        link.orphan = true;
    }
    if (!in_flight) // else it is in the inbox of this thread, and its delivery deletes it
        delete &link;
}

cancel_request token_state::current(const token_link& link) noexcept {
    const std::lock_guard lock{mutex_};
    return meant_for(link);
}

// ---- the scope's side ---------------------------------------------------------------------------

token_link& scope_core::link(std::shared_ptr<token_state> state, bool is_own) {
    auto* l = new token_link;
    l->state = std::move(state);
    l->scope = this;
    l->is_own = is_own;
    l->next_of_scope = links;
    links = l;
    l->state->add(*l, owner);
    return *l;
}

const std::shared_ptr<token_state>& scope_core::own_token() {
    for (token_link* l = links; l != nullptr; l = l->next_of_scope)
        if (l->is_own)
            return l->state;
    token_link& l = link(std::make_shared<token_state>(), true);
    static_cast<void>(l.state->move_deadline(deadline)); // true: is_cancelled() was never called
    if (sight_level != cancel_level::none) {
        spread_work work;
        tell_tokens(work);
        work.run();
    }
    return l.state;
}

void scope_core::bind(const std::shared_ptr<token_state>& state) {
    link(state, false);
}

void scope_core::enter_links(parker& me) noexcept {
    for (token_link* l = links; l != nullptr; l = l->next_of_scope)
        static_cast<void>(take(l->state->enter(*l, me)));
}

void scope_core::enter_failed() noexcept {
    for (token_link* l = links; l != nullptr; l = l->next_of_scope)
        l->state->enter_failed(*l);
}

void scope_core::tell_tokens(spread_work& work) noexcept {
    for (token_link* l = links; l != nullptr; l = l->next_of_scope)
        if (l->is_own)
            l->state->follow(request_in_sight(), work);
}

bool scope_core::set_token_deadline(time_point next) noexcept {
    for (token_link* l = links; l != nullptr; l = l->next_of_scope)
        if (l->is_own)
            return l->state->move_deadline(next);
    return true;
}

// The scope is left, or was never entered. From now on its token does not change by itself: a
// deadline that passes later cancels nothing.
void scope_core::drop_links() noexcept {
    while (token_link* l = links) {
        links = l->next_of_scope;
        const std::shared_ptr<token_state> state = l->state; // remove() may delete the link
        if (l->is_own && deadline > now())
            static_cast<void>(state->move_deadline(time_point::max()));
        state->remove(*l);
    }
}

} // namespace creel::detail
