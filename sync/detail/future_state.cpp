#include <creel/sync/detail/future_state.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>

namespace creel::sync::detail {

void throw_no_state() {
    throw std::future_error{std::future_errc::no_state};
}

void throw_already_set() {
    throw std::future_error{std::future_errc::promise_already_satisfied};
}

bool future_base::ready() const noexcept {
    const std::lock_guard hold{guard};
    return stage_ == stage::ready;
}

future_statistics future_base::statistics() const noexcept {
    const std::lock_guard hold{guard};
    return {is_ready(), waiting.size()};
}

void future_base::wait() {
    check_cancel();
    list_waiter me{plain_wait};
    {
        const std::lock_guard hold{guard};
        if (stage_ == stage::ready)
            return;
        waiting.push_back(me);
    }
    me.wait();
}

bool future_base::begin() noexcept {
    const std::lock_guard hold{guard};
    if (stage_ != stage::open)
        return false;
    stage_ = stage::being_set;
    return true;
}

bool future_base::open() const noexcept {
    const std::lock_guard hold{guard};
    return stage_ == stage::open;
}

void future_base::reopen() noexcept {
    const std::lock_guard hold{guard};
    stage_ = stage::open;
}

// The links are told with the lock free, because they run code of std::promise. The caller's
// promise keeps this state alive meanwhile.
void future_base::finish() noexcept {
    std::unique_ptr<future_link> told;
    {
        wake_batch to_wake;
        const std::lock_guard hold{guard};
        stage_ = stage::ready;
        told = std::move(links_);
        waiting.take_all(to_wake);
    }
    for (; told != nullptr; told = std::move(told->next))
        told->ready();
}

bool future_base::try_set_exception(std::exception_ptr error) {
    CREEL_ASSERT(error != nullptr,
                 guard.says("its promise was given a null std::exception_ptr").c_str());
    if (!begin())
        return false;
    failed_ = true;
    error_ = std::move(error);
    finish();
    return true;
}

void future_base::abandon() noexcept {
    if (!begin())
        return;
    failed_ = true;
    finish();
}

void future_base::throw_failure() const {
    const auto known = [this] {
        const std::lock_guard hold{guard};
        return error_;
    };
    std::exception_ptr error = known();
    if (error == nullptr) {
        auto broken = std::make_exception_ptr(std::future_error{std::future_errc::broken_promise});
        const std::lock_guard hold{guard};
        if (error_ == nullptr)
            error_ = std::move(broken);
        error = error_;
    }
    std::rethrow_exception(error);
}

void future_base::when_ready(std::unique_ptr<future_link> link) {
    {
        const std::lock_guard hold{guard};
        if (stage_ != stage::ready) {
            link->next = std::move(links_);
            links_ = std::move(link);
            return;
        }
    }
    link->ready();
}

} // namespace creel::sync::detail
