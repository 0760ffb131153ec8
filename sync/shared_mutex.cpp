#include <creel/sync/shared_mutex.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>

namespace creel::sync {

namespace {

// Readers are too many to be listed without memory, but the sum of their fingerprints tells whether
// those who left are those who came: sums of the numbers themselves would, too often, agree (1 + 4
// = 2 + 3). The mixing is that of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
// number generators", 2014): a bijection, so that one reader is always told from another.
std::uint64_t fingerprint(party_number who) noexcept {
    std::uint64_t z = who * 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

} // namespace

struct shared_mutex::entrant : list_waiter {
    entrant(shared_mutex& m, const wait_kind& k, bool to_share, party_number me) noexcept
        : list_waiter(k), of(&m), shares(to_share), party(me) {}
    shared_mutex* of;
    bool shares;
    party_number party;
};

constexpr wait_kind shared_mutex::patient{false};
constexpr wait_kind shared_mutex::cancellable{true, &shared_mutex::left};

// A writer that gives up lets the readers behind it go, if readers are inside.
void shared_mutex::left(list_waiter& who, wait_list&, wake_batch& woken) noexcept {
    static_cast<entrant&>(who).of->admit(woken);
}

shared_mutex::~shared_mutex() {
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(writer_ == 0 && readers_ == 0, lock_.says("destroyed while it is locked").c_str());
}

bool shared_mutex::try_enter(bool to_share, party_number me) noexcept {
    if (writer_ != 0 || !waiting_.empty() || (!to_share && readers_ != 0))
        return false;
    if (to_share)
        add_reader(me);
    else
        writer_ = me;
    return true;
}

void shared_mutex::add_reader(party_number who) noexcept {
    ++readers_;
    readers_sum_ += fingerprint(who);
}

void shared_mutex::enter(bool to_share, const wait_kind& kind) {
    party_number me = this_party();
    lock_.lock();
    if (try_enter(to_share, me)) {
        lock_.unlock();
        return;
    }
    CREEL_ASSERT(writer_ != me, lock_.says("locked again by the one who writes").c_str());
    entrant self{*this, kind, to_share, me};
    ++contended_;
    const wait_label label = lock_.label();
    const party_number writer = writer_;
    waiting_.push_back(self);
    lock_.unlock();
    creel::detail::name_wait_for_ancestor(label, writer, {},
                                          "unlock before waiting for children that lock");
    self.wait();
}

// In order, and no further than the first who must wait on.
void shared_mutex::admit(wake_batch& woken) noexcept {
    while (auto* first = static_cast<entrant*>(waiting_.front())) {
        if (writer_ != 0 || (!first->shares && readers_ != 0))
            return;
        if (first->shares)
            add_reader(first->party);
        else
            writer_ = first->party;
        static_cast<void>(waiting_.take(*first)); // entrants have no claim: it always succeeds
        woken.add(*first);
    }
}

void shared_mutex::lock() {
    enter(false, patient);
}

void shared_mutex::lock_cancellable() {
    check_cancel();
    enter(false, cancellable);
}

bool shared_mutex::try_lock() noexcept {
    party_number me = this_party();
    const std::lock_guard hold{lock_};
    return try_enter(false, me);
}

void shared_mutex::unlock() noexcept {
    party_number me = this_party();
    wake_batch woken;
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(writer_ == me, lock_
                                    .says(writer_ == 0 ? "unlocked, but nobody writes"
                                                       : "unlocked by one who does not hold it")
                                    .c_str());
    writer_ = 0;
    admit(woken);
}

void shared_mutex::lock_shared() {
    enter(true, patient);
}

void shared_mutex::lock_shared_cancellable() {
    check_cancel();
    enter(true, cancellable);
}

bool shared_mutex::try_lock_shared() noexcept {
    party_number me = this_party();
    const std::lock_guard hold{lock_};
    return try_enter(true, me);
}

void shared_mutex::unlock_shared() noexcept {
    party_number me = this_party();
    wake_batch woken;
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(readers_ != 0, lock_.says("unlocked by a reader, but nobody reads").c_str());
    --readers_;
    readers_sum_ -= fingerprint(me);
    CREEL_ASSERT(readers_ != 0 || readers_sum_ == 0,
                 lock_
                     .says("unlocked by a reader who does not hold it: found as the last one of "
                           "those who read has left")
                     .c_str());
    admit(woken);
}

bool shared_mutex::owned() const noexcept {
    party_number me = this_party();
    const std::lock_guard hold{lock_};
    return writer_ == me;
}

shared_mutex_statistics shared_mutex::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {writer_ != 0, readers_, waiting_.size(), contended_};
}

} // namespace creel::sync
