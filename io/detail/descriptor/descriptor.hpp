// The record behind a stream or a listener: a descriptor, what is under way on it, and how it ends.
//
//     used ── close(), drop() ──► closing ── the last member leaves its list ──► closed, freed
//
// Each call that is inside, and each operation of the record's own, is a member of the record's one
// list. Closing refuses new calls, ends every member (it cancels the operation; a shutdown would
// reach every copy of the descriptor), and closes the descriptor after the last has left. So no
// operation ever meets another client's socket under the same number.
//
// The record belongs to the ring it was last used on, and all of it but `inbox_` and `transfer_` to
// that ring's thread. A handle may move to another thread while no call is inside; the first call
// there asks the old ring's thread to let go of the record, and waits for that (move.cpp).
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
    // On the thread of the ring it belongs to, or after that ring's end: has the ring let go of it,
    // for it moves to another; then delivers the node, perhaps at once, and does not touch the
    // record any more. No call is inside.
    void (*let_go)(descriptor&, inbox_node&) noexcept;
    // Frees the record; the descriptor itself is closed behind it.
    void (*destroy)(descriptor&) noexcept;
};

// A descriptor that nothing else owns yet.
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

// A member of a record's list: the record stays while there is one.
class descriptor_use : public link {
public:
    descriptor_use() = default;
    descriptor_use(const descriptor_use&) = delete;
    descriptor_use& operator=(const descriptor_use&) = delete;

    inline void join(descriptor& d) noexcept;
    // May be the end of the record.
    inline void leave() noexcept;

    // What its fiber waits for now. Null: the fiber runs, or there is none.
    waiter* waits = nullptr;

private:
    descriptor* of_ = nullptr;
};

// A call that is inside, from its first line to its last.
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

    // For the handle, which gives the record up with any of these.
    // Waits for what is under way, then closes. Parks: yes. Cancel: no.
    static void close(descriptor& d);
    // Closes once nothing is under way, without waiting. Threads: any.
    static void drop(descriptor& d) noexcept;
    // Gives the descriptor back; no call may be inside.
    static int release(descriptor& d) noexcept;

    // Makes the calling thread's ring the record's home, if it has ever had one. Parks: while
    // another thread's ring lets go of it. Cancel: in that wait, if `cancellable`. `call` names the
    // caller in the assertion that a thread without a ring cannot do that. Throws: cancelled,
    // std::bad_alloc; std::system_error, when it was dropped meanwhile.
    void come_here(const char* call, bool cancellable = true);
    // The same; where the calling thread has a ring, also for a record that has had no home yet. A
    // wait for the descriptor's readiness then finds the record.
    void be_found_here(const char* call);

    // The program may have set SO_LINGER, so that close(2) may stop its thread.
    void may_linger() noexcept { may_linger_ = true; }
    [[nodiscard]] bool lingers() const noexcept { return may_linger_; }

protected:
    descriptor(const descriptor_kind& kind, int fd) noexcept;
    ~descriptor();

    // The calling thread's ring, to which the record belongs from here on. Parks, Cancel, Throws:
    // as come_here(). Before it the caller touches nothing else of the record, which may still be
    // another thread's. After it the record is there until the next switch.
    ring& use_here(const char* call) {
        ring* r = current_ring();
        if (r == nullptr) [[unlikely]]
            no_ring(call);
        if (inbox_.get() != r->inbox().get()) [[unlikely]]
            move_to(*r, call, true);
        return *r;
    }

    // That of the ring the record belongs to, or belonged to until it moves; null: of none.
    [[nodiscard]] const ring_inbox* inbox() const noexcept;

    [[nodiscard]] bool is_used() const noexcept { return !uses_.empty(); }
    // visit(descriptor_use&) removes none.
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
    bool closing_ = false; // no call may begin; the handle has let go
    bool may_linger_ = false;
    circle<descriptor_use> uses_{};
    close_waiter* closer_ = nullptr; // else, when closing, the last to leave closes
    // Guards the next two, for a handle that is dropped on another thread: only the thread that has
    // the record, or asks for it, changes them, and that reads them without it.
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

// The handle is empty: it was closed, released or moved from. Throws: std::system_error.
[[noreturn]] void throw_not_open(const char* call);

// Both addresses are those the kernel knows now. The peer's is known also after a reset.
[[nodiscard]] endpoint local_address(int fd);
[[nodiscard]] endpoint peer_address(int fd);
// In words, for messages; they do not throw where there is no address.
[[nodiscard]] std::string local_name(int fd);
[[nodiscard]] std::string peer_name(int fd);

} // namespace creel::io::detail
