#include <creel/sync/semaphore.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/sync/detail/contender.hpp>

#include <mutex>

namespace creel::sync {

struct semaphore::request : detail::contender {
    request(semaphore& s, std::ptrdiff_t n, time_point began) noexcept
        : contender(request_kind, began), of(&s), count(n) {}
    semaphore* of;
    std::ptrdiff_t count;
};

// When a large request gives up, requests behind it that waited only for it may go.
constexpr wait_kind semaphore::request_kind{true, &semaphore::left};

void semaphore::left(list_waiter& who, wait_list&, wake_batch& to_wake) noexcept {
    static_cast<request&>(who).of->serve(to_wake);
}

semaphore::semaphore(std::ptrdiff_t permits, std::source_location made_at)
    : semaphore("semaphore", permits, permits, made_at) {}

semaphore::semaphore(std::ptrdiff_t initial, std::ptrdiff_t limit, std::source_location made_at)
    : semaphore("semaphore", initial, limit, made_at) {}

semaphore::semaphore(const char* what, std::ptrdiff_t initial, std::ptrdiff_t limit,
                     std::source_location made_at)
    : lock_(what, made_at), available_(initial), permits_(limit) {
    CREEL_ASSERT(initial >= 0, lock_.says("the number of permits must not be negative").c_str());
    CREEL_ASSERT(initial <= limit,
                 lock_.says("made with more permits than its limit allows").c_str());
}

semaphore::~semaphore() {
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(called_ == 0, lock_.says(detail::destroyed_too_early).c_str());
}

void semaphore::acquire(std::ptrdiff_t count) {
    check_cancel();
    lock_.lock();
    if (count <= available_ && count >= 0 && (waiting_.empty() || may_barge())) [[likely]] {
        available_ -= count;
        lock_.unlock();
        return;
    }
    wait_for_turn(count);
}

// May the caller pass the waiters? Only while one of them is called, and not past a first waiter to
// which the permits are handed over.
bool semaphore::may_barge() const noexcept {
    return called_ != 0 && !static_cast<const request*>(waiting_.front())->is_handed_over();
}

void semaphore::wait_for_turn(std::ptrdiff_t count) {
    CREEL_ASSERT(count >= 0, lock_.says("a negative number of permits was asked for").c_str());
    ++waited_;
    wake_batch to_wake;
    if (called_ != 0)
        serve(to_wake); // fibers of this thread that come before this caller
    detail::wait_for_turn(
        waiting_,
        [&](time_point began) {
            return request{*this, count, began};
        },
        [&] {
            if (!to_wake.empty()) [[unlikely]]
                to_wake.wake_all();
        },
        [&] {
            called_ -= count;
            if (count > available_)
                return false;
            available_ -= count;
            return true;
        });
}

bool semaphore::try_acquire(std::ptrdiff_t count) noexcept {
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(count >= 0, lock_.says("a negative number of permits was asked for").c_str());
    if (count > available_ || !(waiting_.empty() || may_barge()))
        return false;
    available_ -= count;
    return true;
}

void semaphore::release(std::ptrdiff_t count) noexcept {
    lock_.lock();
    if (count >= 0 && count <= permits_ - available_ && waiting_.empty()) [[likely]] {
        available_ += count;
        lock_.unlock();
        return;
    }
    give_back(count);
}

void semaphore::give_back(std::ptrdiff_t count) noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{lock_, std::adopt_lock};
    CREEL_ASSERT(count >= 0, lock_.says("a negative number of permits was released").c_str());
    CREEL_ASSERT(count <= permits_ - available_,
                 lock_
                     .says("more permits were released than are held; to signal by release(), make "
                           "it with a limit that allows for it: semaphore{0, limit}")
                     .c_str());
    available_ += count;
    serve(to_wake);
}

// Serves the waiters in order, up to the first that must still wait. Permits that called waiters
// may take can still be handed over to the next in line, but no other waiter is called for them.
void semaphore::serve(wake_batch& to_wake) noexcept {
    while (auto* first = static_cast<request*>(waiting_.front())) {
        if (first->count > available_)
            return;
        auto* next = static_cast<request*>(detail::next_in(waiting_));
        if (next->count > available_)
            next = first;
        if (next->is_handed_over()) {
            available_ -= next->count;
            next->has_it = true;
        } else if (next->count <= available_ - called_) {
            called_ += next->count;
        } else {
            return;
        }
        static_cast<void>(waiting_.take(*next)); // a request has no claim: this always succeeds
        to_wake.add(*next);
    }
}

void semaphore::resize(std::ptrdiff_t permits) noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(permits >= 0, lock_.says("resized to a negative number of permits").c_str());
    available_ += permits - permits_;
    permits_ = permits;
    serve(to_wake);
}

semaphore_statistics semaphore::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {permits_, available_, waiting_.size(), waited_};
}

} // namespace creel::sync
