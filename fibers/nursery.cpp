#include <creel/fibers/nursery.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/detail/scheduler.hpp>
#include <creel/fibers/exception_group.hpp>

#include <algorithm>
#include <cstdio>

namespace creel {

error_policy collect() {
    error_policy policy;
    policy.kind_ = error_policy::kind_type::collect;
    return policy;
}

error_policy report(error_policy::handler handler) {
    error_policy policy;
    policy.kind_ = error_policy::kind_type::report;
    policy.handler_ = std::move(handler);
    return policy;
}

namespace detail {

namespace {

// The wait for the last child. Nobody may withdraw it: children are cancelled, not abandoned.
struct join_waiter : waiter {
    static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
    static void describe(const waiter& w, std::string& text) {
        const auto& self = static_cast<const join_waiter&>(w);
        text += "its " + std::to_string(self.core->children) + " children";
    }
    static constexpr waiter_kind kind{&withdraw, &describe, false};

    explicit join_waiter(const nursery_core& c) noexcept : waiter(kind), core(&c) {}
    const nursery_core* core;
};

} // namespace

nursery_core::nursery_core(error_policy on_error, std::string_view called,
                           std::source_location from)
    : opener(&this_parker()), policy(std::move(on_error)), name(called), where(from) {
    CREEL_ASSERT(opener->home != nullptr,
                 "with_nursery needs a running scheduler: call it inside io::run");
    scope_access::set_nursery(scope, this);
    scope_access::enter(scope, duration{});
}

nursery_core::~nursery_core() {
    CREEL_ASSERT(children == 0 && !open, "a nursery was destroyed before it was joined");
}

bool nursery_core::cancelled_for_children() const noexcept {
    return scope_access::effective(scope) &&
           scope_access::visible_cancel(*opener, const_cast<cancel_scope*>(&scope),
                                        scope_access::entry_count(scope)) != nullptr;
}

task* nursery_core::make_task(const spawn_options& options, std::size_t closure_bytes,
                              std::size_t closure_align, std::source_location from) {
    if (scheduler::current() != opener->home) [[unlikely]]
        assertion_failed("spawn", "a nursery is used on its own thread only", from);
    if (!open) [[unlikely]]
        assertion_failed("spawn", "the nursery has ended", from);
    if (cancelled_for_children()) [[unlikely]]
        return nullptr;
    if (options.stack_bytes > most_stack_bytes) [[unlikely]]
        throw std::bad_alloc{}; // no waiting will help
    task* t = opener->home->make_task(*this, closure_bytes, closure_align, from);
    if (options.stack_bytes != 0)
        t->stack_bytes = options.stack_bytes;
    if (!options.name.empty()) {
        try {
            t->name = options.name;
        } catch (...) {
            opener->home->free_task(*t);
            throw;
        }
    }
    return t;
}

void nursery_core::discard_task(task& t) noexcept {
    opener->home->free_task(t);
}

void nursery_core::submit(task& t) noexcept {
    t.previous = last_child;
    (last_child != nullptr ? last_child->next : first_child) = &t;
    last_child = &t;
    ++children;
    opener->home->submit(t);
}

void nursery_core::submit(task& t, task_result& r) noexcept {
    opener->home->keep_task(t, r);
    submit(t);
}

void nursery_core::failed(std::exception_ptr error, bool was_cancelled,
                          const task* child) noexcept {
    if (was_cancelled && cancelled_for_children()) {
        if (a_cancelled == nullptr)
            a_cancelled = std::move(error);
        return;
    }
    if (child != nullptr && policy.kind_ == error_policy::kind_type::report) {
        opener->home->count_reported_error();
        const task_info info{child->id, child->name, child->spawned_at};
        if (policy.handler_) {
            try {
                policy.handler_(std::move(error), info);
            } catch (const cancelled&) { // it waited, and the nursery is ending
            }
        } else
            std::fprintf(stderr, "creel: %s failed: %s\n", to_string(info).c_str(),
                         describe_exception(error).c_str());
        return;
    }
    if (std::find(errors.begin(), errors.end(), error) == errors.end())
        errors.push_back(error);
    if (policy.kind_ != error_policy::kind_type::collect)
        scope.cancel(cancel_reason{cancel_cause::sibling_failed, describe_exception(error), 0});
}

void nursery_core::child_ended(task& t) noexcept {
    (t.previous != nullptr ? t.previous->next : first_child) = t.next;
    (t.next != nullptr ? t.next->previous : last_child) = t.previous;
    if (--children == 0 && joiner != nullptr) {
        waiter& w = *joiner;
        joiner = nullptr;
        wake(w);
    }
}

void nursery_core::child_starved(task& t) noexcept {
    t.next_ready = starved;
    starved = &t;
    if (joiner != nullptr) {
        waiter& w = *joiner;
        joiner = nullptr;
        wake(w);
    } else if (t.result != nullptr) {
        t.result->wake_getter();
    }
}

void nursery_core::fail_starved() noexcept {
    while (runnable* r = starved) {
        starved = r->next_ready;
        opener->home->fail_unstarted(static_cast<task&>(*r));
    }
}

bool nursery_core::is_join(const waiter& w) noexcept {
    return &w.kind() == &join_waiter::kind;
}

bool nursery_core::join() {
    scheduler& home = *opener->home;
    if (children == 0)
        home.yield(); // a schedule point even when there is nothing to wait for
    while (children != 0) {
        fail_starved();
        if (children == 0)
            break;
        join_waiter w{*this};
        joiner = &w;
        static_cast<void>(park(w));
    }
    open = false;
    const bool absorbs = scope_access::leave_absorbing(scope);
    if (errors.size() == 1)
        std::rethrow_exception(errors.front());
    if (!errors.empty())
        throw exception_group{errors};
    if (a_cancelled != nullptr && !absorbs)
        std::rethrow_exception(a_cancelled);
    return a_cancelled == nullptr;
}

void nursery_core::throw_absorbed() const {
    throw task_cancelled{scope.reason() != nullptr ? scope.reason()->text : std::string{}};
}

} // namespace detail

cancel_token nursery::token() {
    return core_.scope.token();
}

} // namespace creel
