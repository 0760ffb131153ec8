#pragma once

// The ring as both hand-written io_uring servers set it up. In order of what each was found to be
// worth (PEERS.md): one issuer with deferred task work (4-8%, 20% at 2,000 connections), direct
// descriptors (3%), a registered ring, SUBMIT_ALL, a CQ that holds a completion of every
// connection.

#include <liburing.h>

namespace creel::bench::peers {

inline constexpr unsigned raw_slots = 4096; // direct descriptors; each is one connection

// More than creel's ring has (run_options::ring_entries).
inline constexpr unsigned raw_sq_entries = 4096;
inline constexpr unsigned raw_cq_entries = 8192;

// With a sparse table of `raw_slots` direct descriptors. Ends the process on failure.
void raw_ring_open(io_uring& ring);

// The next entry; a full SQ is submitted first.
io_uring_sqe* raw_ring_entry(io_uring& ring);

// Memory for `count` buffers of 16 KiB, not touched yet, never returned. Buffers stand `raw_stride`
// apart: at 16,384 all their first lines would fall into the same few sets of the L1 cache. Other
// strides (16,384; 16,448; 20,480) and huge pages measured the same here, within the noise.
inline constexpr unsigned raw_buffer_bytes = 16384;
inline constexpr unsigned raw_stride = raw_buffer_bytes + 256;
unsigned char* raw_buffers(unsigned count);

} // namespace creel::bench::peers
