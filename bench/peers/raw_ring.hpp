#pragma once

// The ring of the hand-written io_uring servers. Its settings, ordered by the CPU time that each
// was measured to save: one issuer with deferred task work (4-8%, 20% at 2,000 connections), direct
// descriptors (3%), a registered ring, SUBMIT_ALL, a CQ with room for a completion of each
// connection.

#include "raw_listener.hpp"

#include <cerrno>
#include <cstddef>

#include <liburing.h>
#include <sys/socket.h>

namespace creel::bench::peers {

inline constexpr unsigned raw_slots = 4096; // direct descriptors; each is one connection

// More entries than creel's ring has by default (run_options::ring_entries).
inline constexpr unsigned raw_sq_entries = 4096;
inline constexpr unsigned raw_cq_entries = 8192;

// Opens a ring with a sparse table of `raw_slots` direct descriptors. A failure ends the process.
void raw_ring_open(io_uring& ring);

// Returns the next entry. If the SQ is full, submits it first.
io_uring_sqe* raw_ring_entry(io_uring& ring);

// Submits the entries, waits for a completion and calls `handle` for each completion that has come.
template <class Handle>
void raw_ring_turn(io_uring& ring, Handle handle) {
    const int error = io_uring_submit_and_wait(&ring, 1);
    if (error < 0 && error != -EINTR)
        raw_fail("io_uring_submit_and_wait", -error);
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring, head, cqe) {
        handle(cqe);
        ++count;
    }
    io_uring_cq_advance(&ring, count);
}

// The user data of an entry: an operation of an echo server and the slot of its connection.
enum raw_operation : unsigned { raw_accept, raw_recv, raw_send, raw_close, raw_cancel };

inline unsigned long long raw_tag(raw_operation op, unsigned slot) {
    return static_cast<unsigned long long>(slot) << 8 | op;
}
inline raw_operation raw_operation_of(const io_uring_cqe* cqe) {
    return static_cast<raw_operation>(cqe->user_data & 0xff);
}
inline unsigned raw_slot_of(const io_uring_cqe* cqe) {
    return static_cast<unsigned>(cqe->user_data >> 8);
}

// Starts a multishot accept into direct descriptors. Its tag is raw_accept.
void raw_start_accept(io_uring& ring, int listener);

// Starts a send of all the bytes. Its tag is raw_send.
inline void raw_start_send(io_uring& ring, unsigned slot, const unsigned char* data, int bytes) {
    io_uring_sqe* sqe = raw_ring_entry(ring);
    io_uring_prep_send(sqe, static_cast<int>(slot), data, static_cast<std::size_t>(bytes),
                       MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, raw_tag(raw_send, slot));
}

// Starts the close of a direct descriptor. Only a failed close completes. Its tag is raw_close.
void raw_start_close(io_uring& ring, unsigned slot);

// Returns memory for `count` buffers of 16 KiB. It is not touched yet and is never given back.
// Buffers are `raw_stride` bytes apart: with 16,384 all their first lines would be in the same few
// sets of the L1 cache. Other strides (16,384; 16,448; 20,480) and huge pages measured the same
// here, within the noise.
inline constexpr unsigned raw_buffer_bytes = 16384;
inline constexpr unsigned raw_stride = raw_buffer_bytes + 256;
unsigned char* raw_buffers(unsigned count);

} // namespace creel::bench::peers
