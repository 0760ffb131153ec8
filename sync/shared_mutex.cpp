// The parties inside, and the transitions. `detail/contender.hpp` tells what `called` means.
//
//     free --1--> written --2--> free     written: writer_ is the party inside
//     free --3--> read    --5--> free     read: readers_ parties are inside
//     read --4--> read
//
//     1  let_in(false): a writer enters. try_enter() at once, admit() by a hand-over, or the writer
//        itself once it is called.
//     2  unlock(); admit() then lets waiters in.
//     3  let_in(true): the first reader enters, in the same three ways.
//     4  let_in(true): another reader enters, or a reader leaves and others stay.
//     5  unlock_shared() of the last reader; admit() then lets waiters in.
#include <creel/sync/shared_mutex.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/held_wait.hpp>
#include <creel/sync/detail/contender.hpp>

#include <mutex>
#include <string>

namespace creel::sync {

namespace {

// A list of the readers needs memory. Instead the sum of their fingerprints tells whether the
// readers that left are the readers that came. Sums of the numbers themselves agree too often (1 +
// 4 = 2 + 3). The mixing is that of splitmix64 (Steele, Lea and Flood, "Fast splittable
// pseudorandom number generators", 2014): a bijection, so that two readers always differ.
std::uint64_t fingerprint(party_number who) noexcept {
    std::uint64_t z = who * 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

// The party with this fingerprint: each step of fingerprint(), undone from the last to the first.
// The factors are the inverses of its factors modulo 2^64.
party_number party_of(std::uint64_t z) noexcept {
    z ^= (z >> 31) ^ (z >> 62);
    z *= 0x319642b2d24d8ec3U;
    z ^= (z >> 27) ^ (z >> 54);
    z *= 0x96de1b173f119089U;
    z ^= (z >> 30) ^ (z >> 60);
    return z * 0xf1de83e19937733dU;
}

} // namespace

struct shared_mutex::entrant final : detail::contender {
    entrant(shared_mutex& m, const wait_kind& k, time_point began, bool to_share,
            party_number me) noexcept
        : contender(k, began), of(&m), shares(to_share), party(me) {}

    // When a writer gives up while readers are inside, the readers behind it may enter.
    static void left(list_waiter& who, wait_list&, wake_batch& to_wake) noexcept {
        static_cast<entrant&>(who).of->admit(to_wake);
    }
    static party_number holder(const waiter& w) noexcept {
        const auto& self = static_cast<const entrant&>(w);
        party_number found = 0;
        self.look_at_list([&](const wait_list& line) {
            found = self.shares && self.of->writer_ == 0 ? self.writer_ahead(line)
                                                         : self.of->only_holder();
        });
        return found;
    }
    static void add_details(const waiter& w, std::string& text) {
        const auto& self = static_cast<const entrant&>(w);
        std::size_t readers = 0;
        self.look_at_list([&](const wait_list&) { readers = self.of->readers_; });
        text += self.shares ? " to read" : " to write";
        if (readers > 1)
            text += ", which " + std::to_string(readers) + " read";
        self.describe_place(text);
    }
    static constexpr wait_kind not_cancellable{false, nullptr, &holder, &add_details};
    static constexpr wait_kind cancellable{true, &left, &holder, &add_details};

    // A reader waits behind it although the mutex is open to readers.
    [[nodiscard]] party_number writer_ahead(const wait_list& line) const noexcept {
        for (const wait_node* n = line.front(); n != nullptr && n != this; n = n->next())
            if (const auto* ahead = static_cast<const entrant*>(n); !ahead->shares)
                return ahead->party;
        return 0;
    }

    shared_mutex* of;
    bool shares;
    party_number party;
    held_wait listed{*this};
};

shared_mutex::~shared_mutex() {
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(writer_ == 0 && readers_ == 0, lock_.says("destroyed while it is locked").c_str());
    CREEL_ASSERT(called_writers_ + called_readers_ == 0,
                 lock_.says(detail::destroyed_too_early).c_str());
}

bool shared_mutex::is_open(bool to_share) const noexcept {
    return writer_ == 0 && (to_share || readers_ == 0);
}

// The sum of one fingerprint is that fingerprint.
party_number shared_mutex::only_holder() const noexcept {
    if (writer_ != 0)
        return writer_;
    return readers_ == 1 ? party_of(readers_sum_) : 0;
}

void shared_mutex::let_in(bool to_share, party_number who) noexcept {
    if (to_share)
        add_reader(who);
    else
        writer_ = who;
}

// Enters past the waiters only while one of them is called, and not past a first waiter to which
// the mutex is handed over.
bool shared_mutex::try_enter(bool to_share, party_number me) noexcept {
    if (!is_open(to_share))
        return false;
    if (const auto* first = static_cast<const entrant*>(waiting_.front()))
        if (called_writers_ + called_readers_ == 0 || first->is_handed_over())
            return false;
    let_in(to_share, me);
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
    ++contended_;
    const wait_label label = lock_.label();
    const party_number writer = writer_;
    wake_batch to_wake;
    if (called_writers_ + called_readers_ != 0)
        admit(to_wake); // fibers of this thread that come before this caller
    detail::wait_for_turn(
        waiting_,
        [&](time_point began) {
            return entrant{*this, kind, began, to_share, me};
        },
        [&] {
            if (!to_wake.empty()) [[unlikely]]
                to_wake.wake_all();
            warn_if_ancestor_waits(label, writer, {},
                                   "unlock before waiting for children that lock");
        },
        [&] {
            --called(to_share);
            if (!is_open(to_share))
                return false;
            let_in(to_share, me);
            return true;
        });
}

std::size_t& shared_mutex::called(bool to_share) noexcept {
    return to_share ? called_readers_ : called_writers_;
}

// Admits the waiters in order, up to the first that must still wait. All waiters that are called at
// one time can enter together: one writer, or readers.
void shared_mutex::admit(wake_batch& to_wake) noexcept {
    while (auto* first = static_cast<entrant*>(waiting_.front())) {
        if (!is_open(first->shares))
            return;
        if (first->is_handed_over()) {
            let_in(first->shares, first->party);
            first->has_it = true;
        } else if (called_writers_ == 0 && (first->shares || called_readers_ == 0)) {
            ++called(first->shares);
        } else {
            return;
        }
        to_wake.add(*waiting_.take_front()); // an entrant has no claim: this is the first
    }
}

void shared_mutex::lock() {
    enter(false, entrant::not_cancellable);
}

void shared_mutex::lock_cancellable() {
    check_cancel();
    enter(false, entrant::cancellable);
}

bool shared_mutex::try_lock() noexcept {
    party_number me = this_party();
    const std::lock_guard hold{lock_};
    return try_enter(false, me);
}

void shared_mutex::unlock() noexcept {
    party_number me = this_party();
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(writer_ == me, lock_
                                    .says(writer_ == 0 ? "unlocked, but nobody writes"
                                                       : "unlocked by one who does not hold it")
                                    .c_str());
    writer_ = 0;
    admit(to_wake);
}

void shared_mutex::lock_shared() {
    enter(true, entrant::not_cancellable);
}

void shared_mutex::lock_shared_cancellable() {
    check_cancel();
    enter(true, entrant::cancellable);
}

bool shared_mutex::try_lock_shared() noexcept {
    party_number me = this_party();
    const std::lock_guard hold{lock_};
    return try_enter(true, me);
}

void shared_mutex::unlock_shared() noexcept {
    party_number me = this_party();
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    CREEL_ASSERT(readers_ != 0, lock_.says("unlocked by a reader, but nobody reads").c_str());
    --readers_;
    readers_sum_ -= fingerprint(me);
    CREEL_ASSERT(readers_ != 0 || readers_sum_ == 0,
                 lock_
                     .says("unlocked by a reader who does not hold it: found as the last one of "
                           "those who read has left")
                     .c_str());
    admit(to_wake);
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
