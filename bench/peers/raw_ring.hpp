#pragma once

// The ring as both hand-written io_uring servers set it up. In order of what each was found to be
// worth (PEERS.md): one issuer with deferred task work (4-8%, 20% at 2,000 connections), direct
// descriptors (3%), a registered ring, SUBMIT_ALL, a CQ that holds a completion of every
// connection.

#include "raw_listener.hpp"

#include <cerrno>
#include <cstddef>

#include <liburing.h>
#include <sys/socket.h>

namespace creel::bench::peers {

inline constexpr unsigned raw_slots = 4096; // direct descriptors; each is one connection

// More than creel's ring has (run_options::ring_entries).
inline constexpr unsigned raw_sq_entries = 4096;
inline constexpr unsigned raw_cq_entries = 8192;

// With a sparse table of `raw_slots` direct descriptors. Ends the process on failure.
void raw_ring_open(io_uring& ring);

// The next entry; a full SQ is submitted first.
io_uring_sqe* raw_ring_entry(io_uring& ring);

// Submits the entries, waits for a completion and calls `handle` with each that is there.
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

// A multishot accept into direct descriptors, with the tag raw_accept.
void raw_start_accept(io_uring& ring, int listener);

// A send of all the bytes, with the tag raw_send.
inline void raw_start_send(io_uring& ring, unsigned slot, const unsigned char* data, int bytes) {
    io_uring_sqe* sqe = raw_ring_entry(ring);
    io_uring_prep_send(sqe, static_cast<int>(slot), data, static_cast<std::size_t>(bytes),
                       MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, raw_tag(raw_send, slot));
}

// Closes a direct descriptor. Only a failure completes, with the tag raw_close.
void raw_start_close(io_uring& ring, unsigned slot);

// Memory for `count` buffers of 16 KiB, not touched yet, never returned. Buffers stand `raw_stride`
// apart: at 16,384 all their first lines would fall into the same few sets of the L1 cache. Other
// strides (16,384; 16,448; 20,480) and huge pages measured the same here, within the noise.
inline constexpr unsigned raw_buffer_bytes = 16384;
inline constexpr unsigned raw_stride = raw_buffer_bytes + 256;
unsigned char* raw_buffers(unsigned count);

} // namespace creel::bench::peers
