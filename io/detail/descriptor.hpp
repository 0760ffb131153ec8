// The record behind a stream or a listener: a descriptor, who uses it, and how it ends.
//
// The record lives as long as anybody needs it: the handle (tcp_stream, tcp_listener), each call
// that is inside, each operation the kernel works on. Closing refuses new calls, ends what is under
// way, and closes the descriptor after the last of them has left, so that no operation ever meets
// another client's socket under the same number.
//
// It belongs to the ring it was last used on, and all of it but `home_` and `transfer_` to that
// ring's thread. A handle may move to another thread while no call is inside; the first call there
// asks the old ring's thread to let go of the record, and waits for that. Cancelled, it leaves the
// answer to the next call, on whichever thread that is.
#pragma once

#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/ring.hpp>
#include <creel/io/endpoint.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace creel::io::detail {

class descriptor;

struct descriptor_kind {
    const char* name; // "stream"
    // Ends what is under way, soon. Must not switch.
    void (*interrupt)(descriptor&) noexcept;
    // On the thread of the ring it belongs to, or after that ring's end: has the ring let go of it,
    // for it moves to another; then delivers the mail, perhaps at once, and does not touch the
    // record any more.
    void (*let_go)(descriptor&, mail&) noexcept;
    // Frees the record, and leaves the descriptor itself alone.
    void (*destroy)(descriptor&) noexcept;
    // Of the calls inside, one that waits; null if there is none.
    const waiter* (*first_wait)(descriptor&) noexcept;
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

class descriptor : mail {
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

    // Keeps the record while a call is inside.
    class hold {
    public:
        explicit hold(descriptor& d) noexcept : held_(d) { ++d.holds_; }
        ~hold() { held_.leave(); }
        hold(const hold&) = delete;
        hold& operator=(const hold&) = delete;

    private:
        descriptor& held_;
    };

protected:
    descriptor(const descriptor_kind& kind, int fd) noexcept;
    ~descriptor();

    // Makes r, the calling thread's, the record's home. Parks, Cancel, Throws: as come_here().
    // Before it the caller touches nothing else of the record, which may still be another thread's
    // (accept() alone reads a pointer, to catch two threads that do the same).
    // After it the record is there until the next switch.
    void use_on(ring& r, const char* call) {
        if (home_.get() != r.box().get()) [[unlikely]]
            move_to(r, call, true);
    }

    // Of which ring the record is, or was until it moves; null: of none.
    [[nodiscard]] const mailbox* home() const noexcept;

    void enter() noexcept { ++holds_; }
    void leave() noexcept {
        if (--holds_ == 0 && closing_) [[unlikely]]
            last_left();
    }

private:
    struct close_waiter;
    struct mover;
    struct transfer;

    void move_to(const ring& r, const char* call, bool cancellable);
    void settle(const std::shared_ptr<mailbox>& box) noexcept;
    void drop_moving() noexcept;
    bool begin_close() noexcept;
    void end_waits() noexcept;
    void drop_here() noexcept;
    void name_user() noexcept;
    void last_left() noexcept;
    void finish() noexcept;

    const descriptor_kind* kind_;
    int fd_;
    unsigned holds_ = 0;                   // calls inside and operations of the record's own
    bool closing_ = false;                 // no call may begin; the handle has let go
    close_waiter* closer_ = nullptr;       // else, when closing, the last to leave closes
    std::shared_ptr<mailbox> home_{};      // null: none yet, or it moves
    std::unique_ptr<transfer> transfer_{}; // while it moves
};

// A wait for readiness. The descriptor may be that of a record, whose close ends it.
struct descriptor_wait : operation, link {
    descriptor_wait(const waiter_kind& kind, ring& r, int descriptor) noexcept
        : operation(kind, r, descriptor) {
        r.waits_near(fd).push(*this);
    }
    ~descriptor_wait() { unlink(); }
    descriptor_wait(const descriptor_wait&) = delete;
    descriptor_wait& operator=(const descriptor_wait&) = delete;

    std::optional<descriptor::hold> closed{}; // once its record closes, which waits for it
};

// The handle is empty: it was closed, released or moved from. Throws: std::system_error.
[[noreturn]] void throw_not_open(const char* call);

// The record of a handle, for a call.
template <typename Record>
[[nodiscard]] Record& opened(Record* record, const char* call) {
    if (record == nullptr) [[unlikely]]
        throw_not_open(call);
    return *record;
}

// Both addresses are those the kernel knows now. The peer's is known also after a reset.
[[nodiscard]] endpoint local_address(int fd);
[[nodiscard]] endpoint peer_address(int fd);
// In words, for messages; never throws for want of an address.
[[nodiscard]] std::string local_name(int fd);
[[nodiscard]] std::string peer_name(int fd);

} // namespace creel::io::detail
