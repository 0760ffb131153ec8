#include <creel/fibers/detail/cancel/standing_reason.hpp>

#include <creel/fibers/fork_guard.hpp>

#include <mutex>
#include <new>

namespace creel::detail {

namespace {
constinit standing_reason unknown{cancel_cause::requested, ""};
const standing_reasons_made unknown_is_made{unknown};

constinit std::mutex making;
const fork_guard making_in_forks{making};
} // namespace

std::shared_ptr<const cancel_reason> unknown_reason() noexcept {
    return unknown.get();
}

const cancel_reason* standing_reason::make() noexcept {
    const std::lock_guard lock{making};
    if (const cancel_reason* known = made_.load(std::memory_order_relaxed))
        return known;
    auto* const made = ::new (static_cast<void*>(place_.data())) cancel_reason{cause_, {}, 0};
    try {
        made->text = text_;
    } catch (const std::bad_alloc&) {
        made->text = "out of memory"; // allocates nothing
    }
    made_.store(made, std::memory_order_release);
    return made;
}

} // namespace creel::detail
