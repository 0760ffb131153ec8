// How a record goes from the ring of one thread to that of another.
#include <creel/io/detail/descriptor.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/wait_list.hpp>

#include <mutex>
#include <source_location>

namespace creel::io::detail {

// A call that waits until another thread's ring has let go of the record. That thread enters the
// call in the record's list before it wakes it: the call that runs first may end the record.
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

// A record between two rings.
//
//     at home ── the first call on another thread ──► asked ── the old ring's thread ──► let go
//        ▲                                                                                  │
//        └──────────── the next call, on whichever thread: one that waits, or a later ──────┘
//
// The call that asked may be cancelled, and the handle go on to a third thread, or back. So this
// lies on the heap and names no call. The record and the old ring's thread have a share each.
struct descriptor::transfer : mail {
    explicit transfer(descriptor& d) noexcept : what(&d), from(std::move(d.home_)) {
        deliver = [](mail& m) noexcept { // on the old ring's thread, or after that ring's end
            auto& t = static_cast<transfer&>(m);
            t.what->leave_ring();
            t.what->kind_->let_go(*t.what, t.answer);
        };
        answer.to = this;
        answer.deliver = [](mail& m) noexcept { static_cast<reply&>(m).to->let_go(); };
    }

    // Behind the lock the record is not the old ring's any more.
    void let_go() noexcept {
        const std::shared_ptr<transfer> keep = std::move(self);
        bool ends = false;
        {
            wake_batch woken; // before the guard, so that it wakes after the unlock
            const std::lock_guard hold{lock};
            has_let_go = true;
            while (auto* m = static_cast<mover*>(waiting.take_front())) {
                m->join(*what);
                woken.add(*m);
            }
            ends = dropped && woken.empty();
        }
        if (ends) {
            what->transfer_.reset();
            what->drop_here();
        }
    }

    [[nodiscard]] bool is_under_way() noexcept {
        const std::lock_guard hold{lock};
        return !has_let_go;
    }

    struct reply : mail {
        transfer* to = nullptr;
    };

    descriptor* what;
    std::shared_ptr<mailbox> from; // the old ring's
    reply answer{};
    std::shared_ptr<transfer> self{}; // the old ring's thread's share
    wait_lock lock{"move of a descriptor"};
    wait_list waiting{lock};
    bool has_let_go = false; // guarded by lock
    bool dropped = false;    // guarded by lock: the handle has gone
};

descriptor::descriptor(const descriptor_kind& kind, int fd) noexcept : kind_(&kind), fd_(fd) {}

descriptor::~descriptor() = default;

const mailbox* descriptor::home() const noexcept {
    return transfer_ != nullptr ? transfer_->from.get() : home_.get();
}

// Until the old ring's thread has let go, it may work on the record: its ring delivers what comes.
// So nothing but home_ and transfer_ is touched here before (the transfer's lock tells), or before
// it is known that the ring has ended (the mailbox's mutex).
void descriptor::move_to(ring& r, const char* call, bool cancellable) {
    if (cancellable)
        throw_if_cancelled(); // and not check_cancel(), which may switch: nothing holds the record
    if (transfer_ == nullptr && home_ == nullptr) {
        arrive(r);
        return;
    }
    refuse_if_used_in_parent(call);
    if (transfer_ == nullptr) {
        transfer_ = std::make_shared<transfer>(*this);
        transfer_->self = transfer_;
        if (!transfer_->from->post(*transfer_))
            transfer_->deliver(*transfer_);
    }
    const std::shared_ptr<transfer> t = transfer_;
    mover m{*this, cancellable};
    bool waits = false;
    {
        const std::lock_guard hold{t->lock};
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

// The record is this thread's, if it was not before.
void descriptor::arrive(ring& r) {
    if (home_ == r.box())
        return;
    CREEL_ASSERT(home_ == nullptr,
                 "two threads use one stream or listener; give each its own, and move one only "
                 "while no call on it waits");
    r.descriptors().enter(fd_, *this); // first, for it may throw
    home_ = r.box();
    if (transfer_ == nullptr)
        return;
    bool dropped = false;
    {
        const std::lock_guard hold{transfer_->lock};
        dropped = transfer_->dropped;
    }
    transfer_.reset();
    if (dropped)
        drop_here();
}

void descriptor::come_here(const char* call, bool cancellable) {
    if (home_ == nullptr && transfer_ == nullptr)
        return;
    refuse_if_used_in_parent(call);
    if (ring* here = current_ring(); here != nullptr) {
        if (home_ != here->box())
            move_to(*here, call, cancellable);
    } else if (transfer_ != nullptr ? transfer_->is_under_way() : home_->has_owner()) {
        const std::string message =
            std::string{call} + ": on a thread without a ring, while the ring that it was used on "
                                "still runs; call it there, or inside io::run()";
        creel::detail::assertion_failed("current_ring() != nullptr", message.c_str(),
                                        std::source_location::current());
    }
}

void descriptor::be_found_here(const char* call) {
    if (ring* here = current_ring(); here != nullptr)
        use_on(*here, call);
    else
        come_here(call);
}

// In a forked child its ring would be waited for, and that does nothing here.
void descriptor::refuse_if_used_in_parent(const char* call) const noexcept {
    if (const mailbox* of = home(); !of->is_parents() || (!is_used() && transfer_ == nullptr))
        return;
    const std::string text = std::string{call} + ": on a " + kind_->name +
                             " that the parent of this process used when it forked";
    creel::detail::assertion_failed("fork()", text.c_str(), std::source_location::current());
}

void descriptor::drop_moving() noexcept {
    const std::shared_ptr<transfer> t = transfer_;
    {
        const std::lock_guard hold{t->lock};
        t->dropped = true;
        if (!t->has_let_go)
            return; // the old ring's thread ends it, or the first of the calls that wait
    }
    transfer_.reset();
    drop_here();
}

} // namespace creel::io::detail
