// The record behind a listener. Each fiber that waits in accept() has one accept operation with the
// kernel. So a connection that no fiber waits for stays in the kernel's backlog. (A multishot
// accept would take the whole backlog, and a descriptor for each, before it could be stopped.)
//
// The kernel wakes one accept operation for each connection (EPOLLEXCLUSIVE, as io_uring's accept
// polls). If that operation ends without a look at the backlog, because it was cancelled or there
// is no descriptor, the connection stays there, and no other operation hears of it. So a call whose
// operation has failed owes a look:
//
//     owes nothing ── 1 its operation fails ──► owes a look ── 2 ──► owes nothing
//                                                   └─────────── 3 ──► has handed on
//
//   1 accept()   by a cancel, an error, 3 of another call, or a close (then 3 does nothing)
//   2 accept()   its next operation brings a connection
//   3 hand_on()  the call ends without a connection. If there is one in the backlog, another call's
//                operation is cancelled. That is 1 of the other call, which then operates anew.
#pragma once

#include <creel/io/detail/descriptor/descriptor.hpp>

namespace creel::io::detail {

class acceptor final : public descriptor {
public:
    // Takes over the descriptor, even if it throws. Throws: std::bad_alloc.
    static acceptor* adopt(owned_fd fd);

    // A connected descriptor.
    // Parks: until there is a connection; first come, first served. Cancel: yes, and then no
    // connection was taken. Threads: the ring's. Throws: cancelled, std::system_error.
    [[nodiscard]] owned_fd accept();

private:
    explicit acceptor(int fd) noexcept : descriptor(kind, fd) {}
    ~acceptor() = default;

    struct owed_look;
    void hand_on() noexcept;

    static void let_go(descriptor& d, creel::inbox_node& done) noexcept;
    static const descriptor_kind kind;

    bool no_other_waits_ = false; // hand_on() has found that, and no accept has begun since
};

} // namespace creel::io::detail
