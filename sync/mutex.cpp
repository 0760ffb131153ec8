#include <creel/sync/mutex.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>

namespace creel::sync {

namespace {

struct locker : list_waiter {
    locker(const wait_kind& kind, party_number me) noexcept : list_waiter(kind), party(me) {}
    party_number party; // who will own it
};

constexpr wait_kind not_cancellable{false};

constexpr const char* unlock_first = "unlock before waiting for children that lock";

} // namespace

mutex::~mutex() {
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(owner_ == 0, lock_.says("destroyed while it is locked").c_str());
}

void mutex::wait_in_line(const wait_kind& kind, party_number me) {
    CREEL_ASSERT(owner_ != me, lock_
                                   .says("locked again by the one who holds it; use a "
                                         "recursive_mutex if that is meant")
                                   .c_str());
    locker self{kind, me};
    ++contended_;
    const wait_label label = lock_.label();
    const party_number owner = owner_;
    waiting_.push_back(self);
    lock_.unlock();
    creel::detail::name_wait_for_ancestor(label, owner, {}, unlock_first);
    self.wait();
}

void mutex::wait_for_turn(party_number me) {
    wait_in_line(not_cancellable, me);
}

void mutex::lock_cancellable() {
    check_cancel();
    party_number me = this_party();
    lock_.lock();
    if (owner_ == 0) {
        owner_ = me;
        lock_.unlock();
        return;
    }
    wait_in_line(plain_wait, me);
}

// The next owner is written under the lock, before anybody else could take the mutex.
void mutex::hand_over(party_number me) noexcept {
    CREEL_ASSERT(owner_ == me, lock_
                                   .says(owner_ == 0 ? "unlocked, but it is not locked"
                                                     : "unlocked by one who does not hold it")
                                   .c_str());
    auto* next = static_cast<locker*>(waiting_.take_front());
    owner_ = next != nullptr ? next->party : 0;
    lock_.unlock();
    if (next != nullptr)
        wake(*next);
}

bool mutex::owned() const noexcept {
    party_number me = this_party();
    const std::lock_guard hold{lock_};
    return owner_ == me;
}

mutex_statistics mutex::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {owner_ != 0, waiting_.size(), contended_};
}

} // namespace creel::sync
