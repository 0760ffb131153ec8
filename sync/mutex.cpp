#include <creel/sync/mutex.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/held_wait.hpp>
#include <creel/sync/detail/contender.hpp>

#include <mutex>
#include <string>

namespace creel::sync {

struct mutex::locker final : detail::contender {
    locker(const wait_kind& kind, time_point began, party_number me, const mutex& m) noexcept
        : contender(kind, began), of(m), party(me) {}

    static party_number holder(const waiter& w) noexcept {
        const auto& self = static_cast<const locker&>(w);
        party_number found = 0;
        self.look_at_list([&](const wait_list&) { found = self.of.owner_; });
        return found;
    }
    static void add_details(const waiter& w, std::string& text) {
        static_cast<const locker&>(w).describe_place(text);
    }
    static constexpr wait_kind not_cancellable{false, nullptr, &holder, &add_details};
    static constexpr wait_kind cancellable{true, nullptr, &holder, &add_details};

    const mutex& of;
    party_number party; // that will own it
    held_wait listed{*this};
};

namespace {

constexpr const char* unlock_first = "unlock before waiting for children that lock";

} // namespace

mutex::~mutex() {
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(owner_ == 0, lock_.says("destroyed while it is locked").c_str());
    CREEL_ASSERT(!is_called_, lock_.says(detail::destroyed_too_early).c_str());
}

void mutex::wait_in_line(const wait_kind& kind, party_number me) {
    CREEL_ASSERT(owner_ != me, lock_
                                   .says("locked again by the one who holds it; use a "
                                         "recursive_mutex if that is meant")
                                   .c_str());
    ++contended_;
    const wait_label label = lock_.label();
    const party_number owner = owner_;
    detail::wait_for_turn(
        waiting_,
        [&](time_point began) {
            return locker{kind, began, me, *this};
        },
        [&] { warn_if_ancestor_waits(label, owner, {}, unlock_first); },
        [&] {
            is_called_ = false;
            if (owner_ != 0)
                return false;
            owner_ = me;
            return true;
        });
}

void mutex::wait_for_turn(party_number me) {
    wait_in_line(locker::not_cancellable, me);
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
    wait_in_line(locker::cancellable, me);
}

// While the mutex is free and contenders wait, one of them is called. A contender that is called
// always tries, and if another party was quicker, the unlock of that party looks at the line again.
// The next owner is written under the lock, before any other party could take the mutex.
void mutex::pass_on(party_number me) noexcept {
    CREEL_ASSERT(owner_ == me, lock_
                                   .says(owner_ == 0 ? "unlocked, but it is not locked"
                                                     : "unlocked by one who does not hold it")
                                   .c_str());
    auto* next = static_cast<locker*>(detail::next_in(waiting_));
    owner_ = 0;
    if (next != nullptr) {
        if (next->is_handed_over()) [[likely]] {
            next->has_it = true;
            owner_ = next->party;
        } else if (!is_called_) {
            is_called_ = true;
        } else {
            next = nullptr;
        }
    }
    if (next != nullptr)
        static_cast<void>(waiting_.take(*next)); // true: a locker has no claim
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
