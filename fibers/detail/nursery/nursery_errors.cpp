// The errors of a nursery's children and body. The table is in nursery_core.hpp.
#include <creel/fibers/detail/nursery/nursery_core.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/cancel/standing_reason.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/error_origin.hpp>
#include <creel/fibers/exception_group.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

namespace creel::detail {

namespace {

constinit standing_reason untold{cancel_cause::sibling_failed, "out of memory"};
const standing_reasons_made untold_is_made{untold};

// Without memory it has no name.
task_info info_of(const task_record& t) noexcept {
    task_info info{t.id, {}, t.spawned_at};
    try {
        info.name = t.name();
    } catch (const std::bad_alloc&) {
    }
    return info;
}

// Only the author of the handler can mend this, so the process ends.
[[noreturn]] void refuse_throwing_handler(const task_info& child) noexcept {
    std::string text;
    try {
        text = escaped(' ' + describe_exception(std::current_exception()) + " when told of " +
                       to_string(child));
    } catch (const std::bad_alloc&) {
    }
    std::fprintf(stderr, "creel: the handler given to report() threw%s: it must not throw\n",
                 text.c_str());
    std::terminate();
}

} // namespace

void nursery_core::report(std::exception_ptr error, const task_record& child) noexcept {
    note_origin(error, child);
    opener->home->count_reported_error();
    const task_info info = info_of(child);
    if (policy.handler_) {
        try {
            policy.handler_(*face, std::move(error), info);
        } catch (const cancelled&) {
            // A wait of the handler has thrown it because the nursery is ending, or the handler has
            // rethrown one: both count as a child that ended so.
            failed(std::current_exception(), true, nullptr);
        } catch (...) {
            refuse_throwing_handler(info);
        }
        return;
    }
    try {
        std::string place = text_of_backtrace(throw_of(error), "creel:     "); // in debug mode
        if (!place.empty())
            place.insert(0, "creel:   thrown at\n");
        std::fprintf(stderr, "creel: %s failed: %s\n%s", escaped(to_string(info)).c_str(),
                     escaped(describe_exception(error)).c_str(), place.c_str());
    } catch (const std::bad_alloc&) {
        std::fputs("creel: a child failed, and there is no memory to say which\n", stderr);
    }
}

void nursery_core::failed(std::exception_ptr error, bool was_cancelled,
                          const task_record* child) noexcept {
    const bool astray = was_cancelled && !cancelled_for_children();
    if (!was_cancelled)
        keep(error);
    else if (a_cancelled == nullptr || (astray && !cancelled_astray))
        a_cancelled = error;
    cancelled_astray = cancelled_astray || astray;
    if (was_cancelled && !astray)
        return; // the cancel of the nursery, or one from outside, has reached it: no failure
    if (child != nullptr)
        note_origin(error, *child);
    if (policy.kind_ != error_policy::kind_type::collect)
        cancel_siblings(error);
}

void nursery_core::fail(std::exception_ptr error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const cancelled&) { // as if it came without a cancel: any other error displaces it
        a_cancelled = error;
        cancelled_astray = true;
    } catch (...) {
        keep(error);
    }
    cancel_siblings(error);
}

void nursery_core::keep(const std::exception_ptr& error) noexcept {
    if (!errors.empty() && errors.back() == error)
        return;
    try {
        errors.push_back(error);
    } catch (const std::bad_alloc&) {
        errors_lost = true;
    }
}

void nursery_core::cancel_siblings(const std::exception_ptr& error) noexcept {
    if (core_of(scope).own.level == cancel_level::cancelled)
        return; // by the first of many that fail: the others need no text and no clock
    try {
        core_of(scope).request(cancel_request::now(std::make_shared<const cancel_reason>(
            cancel_reason{cancel_cause::sibling_failed, describe_exception(error), 0})));
    } catch (const std::bad_alloc&) { // nothing has happened yet; the next line allocates nothing
        core_of(scope).request(cancel_request::now(untold.get()));
    }
}

// The same exception counts once. Any other error displaces a `cancelled`.
void nursery_core::throw_errors() {
    if (!errors.empty()) {
        const std::exception_ptr& first = errors.front();
        if (std::all_of(errors.begin(), errors.end(), [&](const auto& e) { return e == first; }))
            std::rethrow_exception(first);
        throw exception_group{errors};
    }
    if (errors_lost)
        throw std::bad_alloc{};
    if (cancelled_astray)
        std::rethrow_exception(a_cancelled);
}

// After the scope is left. For a child that was dropped, and so has no `cancelled` of its own, the
// one that the opener sees is thrown.
void nursery_core::throw_cancelled_members() {
    if (a_cancelled != nullptr)
        std::rethrow_exception(a_cancelled);
    if (a_child_never_ran)
        throw_cancelled();
}

void nursery_core::forget_errors() noexcept {
    errors.clear();
    a_cancelled = nullptr;
    a_child_never_ran = false;
    cancelled_astray = false;
    errors_lost = false;
}

} // namespace creel::detail
