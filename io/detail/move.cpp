// How a record goes from the ring of one thread to that of another.
#include <creel/io/detail/descriptor.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancelled.hpp>

#include <mutex>
#include <source_location>

namespace creel::io::detail {

// A fiber that waits until another thread's ring has let go of the record.
struct descriptor::mover : waiter, link {
    mover(const descriptor& d, bool cancellable) noexcept
        : waiter(cancellable ? kind : stubborn), what(&d) {}

    static withdrawal withdraw(waiter& w, wake_reason) noexcept {
        auto& self = static_cast<mover&>(w);
        if (!self.linked())
            return withdrawal::pending;
        self.unlink();
        return withdrawal::withdrawn;
    }
    static void describe(const waiter& w, std::string& text) {
        text += "another thread's ring to let go of a ";
        text += static_cast<const mover&>(w).what->kind_->name;
    }
    static const waiter_kind kind;
    static const waiter_kind stubborn; // of close()

    const descriptor* what;
};

const waiter_kind descriptor::mover::kind{&mover::withdraw, &mover::describe, true};
const waiter_kind descriptor::mover::stubborn{&mover::withdraw, &mover::describe, false};

// The way of a record from its old home to whoever asks for it.
//
//     request ──► old home's thread: lets go ──► answer ──► arrival ──► asker's thread: settle()
//
// Who asks may be cancelled, and the handle go on to a third thread, or back. So the letters lie
// here and not on a fiber's stack, and the arrival follows the last who asked. It finds nobody
// there: the record is no ring's, and the next call takes it (let_go and not arriving).
struct descriptor::transfer {
    struct letter : mail {
        transfer* in = nullptr;
    };

    explicit transfer(descriptor& d) noexcept : what(&d), from(std::move(d.home_)) {
        request.in = answer.in = arrival.in = this;
        request.deliver = [](mail& m) noexcept { // on the old home's thread
            transfer& t = *static_cast<letter&>(m).in;
            t.what->kind_->let_go(*t.what, t.answer);
        };
        answer.deliver = [](mail& m) noexcept {
            transfer& t = *static_cast<letter&>(m).in;
            std::unique_lock lock{t.mutex};
            t.let_go = true;
            t.send_on(lock);
        };
        arrival.deliver = [](mail& m) noexcept { static_cast<letter&>(m).in->arrive(); };
    }

    // The arrival goes to the asker. If there is none, whoever comes next has all of this once the
    // lock is free; a record whose handle has gone ends here.
    void send_on(std::unique_lock<std::mutex>& lock) noexcept {
        arriving = asker != nullptr && asker->post(arrival);
        if (!arriving && dropped) {
            lock.unlock();
            end();
        }
    }

    void arrive() noexcept {
        std::unique_lock lock{mutex};
        const ring* here = current_ring();
        if (here == nullptr || here->box() != asker) { // it has moved on meanwhile
            send_on(lock);
        } else if (waiting.empty()) {
            asker = nullptr;
            send_on(lock);
        } else {
            lock.unlock();
            what->settle(here->box());
        }
    }

    // False: it is over, and the caller has the record.
    [[nodiscard]] bool ask(const std::shared_ptr<mailbox>& box, mover& m) noexcept {
        const std::lock_guard lock{mutex};
        if (is_over())
            return false;
        asker = box;
        waiting.push(m);
        return true;
    }

    [[nodiscard]] bool is_under_way() noexcept {
        const std::lock_guard lock{mutex};
        return !is_over();
    }

    [[nodiscard]] bool is_over() const noexcept { return let_go && !arriving; } // with the mutex

    void end() noexcept {
        descriptor& d = *what;
        d.transfer_.reset();
        d.drop_here();
    }

    descriptor* what;
    std::shared_ptr<mailbox> from; // the old home
    letter request{};
    letter answer{};
    letter arrival{};
    // On the asker's thread, which changes it, as whoever becomes the asker, under the mutex.
    circle<mover> waiting{};
    std::mutex mutex{};
    std::shared_ptr<mailbox> asker{}; // guarded by mutex, as is the rest
    bool let_go = false;              // by the old home
    bool arriving = false;            // the arrival is on its way
    bool dropped = false;             // the handle has gone
};

descriptor::descriptor(const descriptor_kind& kind, int fd) noexcept : kind_(&kind), fd_(fd) {}

descriptor::~descriptor() = default;

const mailbox* descriptor::home() const noexcept {
    return transfer_ != nullptr ? transfer_->from.get() : home_.get();
}

// Until the old ring's thread has let go, it may work on the record: its ring delivers what comes.
// So nothing but home_ and transfer_ is touched here before its answer, which the transfer's mutex
// brings, or before it is known that the ring has ended (the mailbox's mutex).
void descriptor::move_to(const ring& r, const char* call, bool cancellable) {
    if (cancellable)
        throw_if_cancelled(); // and not check_cancel(), which may switch: nothing holds the record
    if (transfer_ == nullptr) {
        if (home_ == nullptr) {
            home_ = r.box();
            return;
        }
        transfer_ = std::make_unique<transfer>(*this);
        if (!transfer_->from->post(transfer_->request)) {
            mail nobody;
            nobody.deliver = [](mail&) noexcept {};
            kind_->let_go(*this, nobody);
            settle(r.box());
            return;
        }
    }
    transfer& t = *transfer_;
    mover m{*this, cancellable};
    if (!t.ask(r.box(), m)) {
        settle(r.box());
        return;
    }
    if (park(m) == wake_reason::cancelled)
        throw_cancelled();
    if (closing_) {
        leave();
        throw_not_open(call);
    }
    --holds_;
}

// The record has arrived, on this thread.
void descriptor::settle(const std::shared_ptr<mailbox>& box) noexcept {
    CREEL_ASSERT(holds_ == 0,
                 "two threads use one stream or listener; give each its own, and move one only "
                 "while no call on it waits");
    home_ = box;
    // Each that waited keeps the record until it runs: who runs before may be its end.
    while (!transfer_->waiting.empty()) {
        enter();
        wake(transfer_->waiting.pop());
    }
    const bool dropped = transfer_->dropped;
    transfer_.reset();
    if (dropped)
        drop_here();
}

void descriptor::come_here(const char* call, bool cancellable) {
    if (home_ == nullptr && transfer_ == nullptr)
        return;
    if (const ring* here = current_ring(); here != nullptr) {
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

void descriptor::drop_moving() noexcept {
    {
        const std::lock_guard lock{transfer_->mutex};
        transfer_->dropped = true;
        if (!transfer_->is_over())
            return; // who has it now ends it
    }
    transfer_->end();
}

} // namespace creel::io::detail
