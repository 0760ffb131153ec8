// How a record goes from the ring of one thread to that of another.
#include <creel/io/detail/descriptor/descriptor.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/wait_list.hpp>

#include <mutex>
#include <source_location>

namespace creel::io::detail {

// A call that waits until another thread's ring has let go of the record. That thread enters the
// call in the record's list before it wakes it, since the call that runs first may end the record.
struct descriptor::mover : list_waiter, descriptor_use {
    mover(const descriptor& d, bool cancellable) noexcept
        : list_waiter(cancellable ? kind : kind_of_close), name(d.kind_->name) {}
    ~mover() {
        if (linked())
            leave();
    }

    static void describe(const waiter& w, std::string& text) {
        text += "another thread's ring to let go of a ";
        text += static_cast<const mover&>(static_cast<const list_waiter&>(w)).name;
    }
    static constexpr wait_kind make_kind(bool is_cancellable) noexcept {
        wait_kind made{is_cancellable};
        made.describe = &mover::describe;
        return made;
    }
    static const wait_kind kind;
    static const wait_kind kind_of_close;

    const char* name; // of the record's kind: the record itself is still another thread's
};

const wait_kind descriptor::mover::kind = make_kind(true);
const wait_kind descriptor::mover::kind_of_close = make_kind(false);

// A letter for a record that goes from one ring to another. It travels as an inbox_node to the old
// ring's thread.
//
//     on a ring ── 1 move_to() ──► asked ── 2 deliver() ──► is let go ── 3 let_go() ──► free
//         ▲                                                                              │
//         └──────────────────────────────── 4 arrive() ──────────────────────────────────┘
//
//   1  by the first call on another thread, which posts the letter
//   2  on the old ring's thread, or on the caller's if that ring has ended: leave_ring(), and the
//      kind's let_go(), which may wait for the last completion of a standing receive
//   3  on the same thread: wakes the calls that wait. has_let_go is true from here on.
//   4  by the next call on any thread: one that waited, or a later one
//
// The call of 1 may be cancelled, and the handle may go on to a third thread, or back. So the
// letter is on the heap and names no call. The record and the old ring's thread have a share of it
// each.
//
// The handle may be dropped meanwhile, on any thread. Then the record is ended by the old ring's
// thread in 3; or, if calls were woken there, by the first of them in 4; or, if it was free
// already, by the thread that drops the handle.
struct descriptor::transfer : inbox_node {
    explicit transfer(descriptor& d) noexcept : what(&d), waiting(d.move_lock_) {
        deliver = [](inbox_node& n) noexcept { // 2
            auto& t = static_cast<transfer&>(n);
            t.what->leave_ring();
            t.what->kind_->let_go(*t.what, t.answer);
        };
        answer.to = this;
        answer.deliver = [](inbox_node& n) noexcept { static_cast<reply&>(n).to->let_go(); };
    }

    // 3. After the unlock the record is not the old ring's any more.
    void let_go() noexcept {
        const std::shared_ptr<transfer> keep = std::move(self);
        bool ends = false;
        {
            wake_batch to_wake; // before the guard, so that it wakes after the unlock
            const std::lock_guard hold{what->move_lock_};
            has_let_go = true;
            while (auto* m = static_cast<mover*>(waiting.take_front())) {
                m->join(*what);
                to_wake.add(*m);
            }
            goes_on = !to_wake.empty();
            ends = dropped && !goes_on;
            if (ends)
                what->transfer_.reset();
        }
        if (ends)
            what->drop_here();
    }

    struct reply : inbox_node {
        transfer* to = nullptr;
    };

    descriptor* what;
    std::shared_ptr<ring_inbox> from{}; // the old ring's
    reply answer{};
    std::shared_ptr<transfer> self{}; // the old ring's thread's share
    // The record's move_lock_ guards this and all members below it.
    wait_list waiting;
    bool has_let_go = false;
    bool goes_on = false; // calls that waited have been woken, and arrive
    bool dropped = false; // the handle is destroyed
};

descriptor::descriptor(const descriptor_kind& kind, int fd) noexcept : kind_(&kind), fd_(fd) {}

descriptor::~descriptor() = default;

const ring_inbox* descriptor::inbox() const noexcept {
    return transfer_ != nullptr ? transfer_->from.get() : inbox_.get();
}

// Until the old ring's thread has let go, it may work on the record: its ring delivers completions.
// So this touches only inbox_ and transfer_ until has_let_go is seen under move_lock_, or until the
// inbox has said, under its mutex, that the ring has ended.
void descriptor::move_to(ring& r, const char* call, bool cancellable) {
    if (transfer_ == nullptr && inbox_ == nullptr) {
        arrive(r);
        return;
    }
    if (cancellable)
        check_cancel_only(); // not check_cancel(), which may switch: nothing holds the record
    refuse_if_used_in_parent(call);
    if (transfer_ == nullptr) {
        const auto made = std::make_shared<transfer>(*this);
        made->self = made;
        {
            const std::lock_guard hold{move_lock_};
            made->from = std::move(inbox_);
            transfer_ = made;
        }
        if (!made->from->post(*made))
            made->deliver(*made);
    }
    const std::shared_ptr<transfer> t = transfer_;
    mover m{*this, cancellable};
    bool waits = false;
    {
        const std::lock_guard hold{move_lock_};
        waits = !t->has_let_go;
        if (waits)
            t->waiting.push_back(m);
    }
    if (waits)
        m.wait();
    arrive(r);
    if (closing_)
        throw_not_open(call);
}

// 4. Does nothing if the record belongs to this ring already.
void descriptor::arrive(ring& r) noexcept {
    std::shared_ptr<transfer> over; // destroyed after the unlock
    {
        const std::lock_guard hold{move_lock_};
        if (inbox_ == r.inbox())
            return;
        CREEL_ASSERT(inbox_ == nullptr,
                     "two threads use one stream or listener; give each its own, and move one only "
                     "while no call on it waits");
        inbox_ = r.inbox();
        over = std::move(transfer_);
    }
    r.descriptors().enter(fd_, *this);
    if (over != nullptr && over->dropped)
        drop_here();
}

void descriptor::come_here(const char* call, bool cancellable) {
    if (inbox_ == nullptr && transfer_ == nullptr)
        return;
    refuse_if_used_in_parent(call);
    if (ring* here = current_ring(); here != nullptr) {
        if (inbox_ != here->inbox())
            move_to(*here, call, cancellable);
    } else if (transfer_ != nullptr ? is_between_rings() : inbox_->has_owner()) {
        const std::string message =
            std::string{call} + ": on a thread without a ring, while the ring that it was used on "
                                "still runs; call it there, or inside io::run()";
        assertion_failed("current_ring() != nullptr", message.c_str(),
                         std::source_location::current());
    }
}

void descriptor::be_found_here(const char* call) {
    if (current_ring() != nullptr)
        use_here(call);
    else
        come_here(call);
}

// In a forked child the caller would wait for the parent's ring, which does nothing in the child.
void descriptor::refuse_if_used_in_parent(const char* call) const noexcept {
    if (const ring_inbox* of = inbox(); !of->is_parents() || (!is_used() && transfer_ == nullptr))
        return;
    const std::string text = std::string{call} + ": on a " + kind_->name +
                             " that the parent of this process used when it forked";
    assertion_failed("fork()", text.c_str(), std::source_location::current());
}

bool descriptor::is_between_rings() noexcept {
    const std::lock_guard hold{move_lock_};
    return !transfer_->has_let_go;
}

// True: the thread that has the record, or will have it, ends it. False: the caller ends it, or
// posts it to the ring of the inbox that this returns, if there is one.
bool descriptor::drop_while_moving(std::shared_ptr<ring_inbox>& of) noexcept {
    const std::lock_guard hold{move_lock_};
    if (transfer_ != nullptr) {
        transfer_->dropped = true;
        if (!transfer_->has_let_go || transfer_->goes_on)
            return true;
        transfer_.reset();
    }
    of = inbox_;
    return false;
}

} // namespace creel::io::detail
