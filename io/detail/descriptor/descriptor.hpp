// The record behind a stream or a listener: a descriptor, all that is under way on it, and how it
// ends.
//
//     used ── 1 begin_close() ──► closing ── 2 last_left(), finish() ──► closed, freed
//       └──── 3 release() ──► freed; the descriptor goes back to the program
//
//   1  by close() or drop(): refuses new calls, and ends each member of the list. It cancels the
//      member's operation. (A shutdown would reach each copy of the descriptor.)
//   2  when the last member has left the list, or at once if there is none: last_left() finishes,
//      or wakes the fiber in close(), which finishes
//   3  only while the list is empty
//
// The members of the list are the calls that are inside, and the record's own operations. The
// descriptor is closed after the last member has left. So no operation ever meets another client's
// socket under the same number.
//
// The record belongs to the ring on which it was used last. That ring's thread alone touches it,
// except for `inbox_` and `transfer_`. A handle may move to another thread while no call is inside.
// The first call there asks the old ring's thread to let go of the record, and waits for that
// (move.cpp).
#pragma once

#include <creel/fibers/wait_list.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/endpoint.hpp>

#include <memory>
#include <string>
#include <utility>

namespace creel::io::detail {

class descriptor;

struct descriptor_kind {
    const char* name; // "stream"
    // Ends the record's own operations, at once or soon. Must not switch.
    void (*end_own)(descriptor&) noexcept;
    // The record moves to another ring: makes its ring let go of it; then delivers the node,
    // perhaps at once, and does not touch the record any more. No call is inside. Threads: its
    // ring's, or any after that ring's end.
    void (*let_go)(descriptor&, inbox_node&) noexcept;
    // Frees the record. The descriptor itself is closed after this.
    void (*destroy)(descriptor&) noexcept;
};

// A descriptor that no record owns yet.
class owned_fd {
public:
    explicit owned_fd(int fd) noexcept : fd_(fd) {}
    ~owned_fd();
    owned_fd(const owned_fd&) = delete;
    owned_fd& operator=(const owned_fd&) = delete;

    [[nodiscard]] int get() const noexcept { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }

private:
    int fd_;
};

// A member of a record's list. The record stays while it has a member.
class descriptor_use : public link {
public:
    descriptor_use() = default;
    descriptor_use(const descriptor_use&) = delete;
    descriptor_use& operator=(const descriptor_use&) = delete;

    inline void join(descriptor& d) noexcept;
    // May destroy the record.
    inline void leave() noexcept;

    // The wait that a close ends. Null: there is no fiber, or it runs, or it waits for its turn or
    // for room in the ring, and looks at closing() itself after that.
    waiter* waits = nullptr;

private:
    descriptor* of_ = nullptr;
};

// Exists while a call is inside.
class descriptor_call : public descriptor_use {
public:
    explicit descriptor_call(descriptor& d) noexcept { join(d); }
    ~descriptor_call() { leave(); }
};

class descriptor : inbox_node {
public:
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;

    [[nodiscard]] int fd() const noexcept { return fd_; }
    [[nodiscard]] bool closing() const noexcept { return closing_; }

    // For the handle, which gives the record up with each of these three.
    // Waits for all that is under way, then closes.
    // Parks: yes. Cancel: no.
    static void close(descriptor& d);
    // Closes once nothing is under way, without waiting. Threads: any.
    static void drop(descriptor& d) noexcept;
    // Gives the descriptor back. No call may be inside.
    static int release(descriptor& d) noexcept;

    // Moves the record to the calling thread's ring, if it has ever belonged to a ring. `call`
    // names the caller if the process ends because this thread has no ring while that ring still
    // runs.
    // Parks: while another thread's ring lets go of the record. Cancel: in that wait, if
    // `cancellable`. Throws: cancelled, std::bad_alloc; std::system_error if the record was dropped
    // meanwhile.
    void come_here(const char* call, bool cancellable = true);
    // The same. If the calling thread has a ring, a record that has never belonged to a ring also
    // comes here. A wait for the readiness of the descriptor then finds the record.
    void be_found_here(const char* call);

    // The program may have set SO_LINGER, so that close(2) may stop its thread.
    void may_linger() noexcept { may_linger_ = true; }
    [[nodiscard]] bool lingers() const noexcept { return may_linger_; }

protected:
    descriptor(const descriptor_kind& kind, int fd) noexcept;
    ~descriptor();

    // Returns the calling thread's ring, to which the record belongs from here on. Before this call
    // the caller touches nothing else of the record, which may still be another thread's. After it
    // the record exists until the next switch. Parks, Cancel, Throws: as come_here().
    ring& use_here(const char* call) {
        ring* r = current_ring();
        if (r == nullptr) [[unlikely]]
            no_ring(call);
        if (inbox_.get() != r->inbox().get()) [[unlikely]]
            move_to(*r, call, true);
        return *r;
    }

    // The inbox of the ring that the record belongs to, or is leaving; null: it has never belonged
    // to a ring.
    [[nodiscard]] const ring_inbox* inbox() const noexcept;

    [[nodiscard]] bool is_used() const noexcept { return !uses_.empty(); }
    // visit(descriptor_use&) removes no member.
    template <typename Visit>
    void for_each_use(Visit visit) noexcept {
        uses_.for_each(visit);
    }

private:
    friend class descriptor_use;
    struct close_waiter;
    struct mover;
    struct transfer;

    [[nodiscard]] static bool close_copy(descriptor& d) noexcept;
    void refuse_if_used_in_parent(const char* call) const noexcept;
    void move_to(ring& r, const char* call, bool cancellable);
    void arrive(ring& r) noexcept;
    void leave_ring() noexcept;
    [[nodiscard]] bool is_between_rings() noexcept;
    [[nodiscard]] bool drop_while_moving(std::shared_ptr<ring_inbox>& of) noexcept;
    bool begin_close() noexcept;
    void drop_here() noexcept;
    void name_user() noexcept;
    void last_left() noexcept;
    void finish() noexcept;

    const descriptor_kind* kind_;
    int fd_;
    bool closing_ = false; // no call may begin; the handle has given the record up
    bool may_linger_ = false;
    circle<descriptor_use> uses_{};
    close_waiter* closer_ = nullptr; // null while closing: the last member to leave closes
    // Guards the next two, because a handle may be dropped on another thread. Only the thread that
    // has the record, or asks for it, changes them; it reads them without the lock.
    wait_lock move_lock_{"move of a descriptor"};
    std::shared_ptr<ring_inbox> inbox_{};  // of its ring; null: it has none yet, or moves
    std::shared_ptr<transfer> transfer_{}; // while it moves
};

void descriptor_use::join(descriptor& d) noexcept {
    of_ = &d;
    d.uses_.push(*this);
}

void descriptor_use::leave() noexcept {
    unlink();
    if (of_->closing_ && of_->uses_.empty()) [[unlikely]]
        of_->last_left();
}

// For a handle that was closed, released or moved from. Throws: std::system_error.
[[noreturn]] void throw_not_open(const char* call);

// The addresses that the kernel knows now. It knows the peer's address even after a reset.
[[nodiscard]] endpoint local_address(int fd);
[[nodiscard]] endpoint peer_address(int fd);
// The addresses in words, for messages. These do not throw if there is no address.
[[nodiscard]] std::string local_name(int fd);
[[nodiscard]] std::string peer_name(int fd);

} // namespace creel::io::detail
