#include "raw_ring.hpp"

#include <sys/mman.h>

namespace creel::bench::peers {

void raw_ring_open(io_uring& ring) {
    io_uring_params parameters{};
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    parameters.cq_entries = raw_cq_entries;
    if (const int error = io_uring_queue_init_params(raw_sq_entries, &ring, &parameters); error < 0)
        raw_fail("io_uring_queue_init_params", -error);
    if (const int error = io_uring_register_ring_fd(&ring); error < 0)
        raw_fail("io_uring_register_ring_fd", -error);
    if (const int error = io_uring_register_files_sparse(&ring, raw_slots); error < 0)
        raw_fail("io_uring_register_files_sparse", -error);
}

io_uring_sqe* raw_ring_entry(io_uring& ring) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    while (entry == nullptr) {
        if (const int error = io_uring_submit(&ring); error < 0 && error != -EINTR)
            raw_fail("io_uring_submit", -error);
        entry = io_uring_get_sqe(&ring);
    }
    return entry;
}

void raw_start_accept(io_uring& ring, int listener) {
    io_uring_sqe* sqe = raw_ring_entry(ring);
    io_uring_prep_multishot_accept_direct(sqe, listener, nullptr, nullptr, 0);
    io_uring_sqe_set_data64(sqe, raw_tag(raw_accept, 0));
}

void raw_start_close(io_uring& ring, unsigned slot) {
    io_uring_sqe* sqe = raw_ring_entry(ring);
    io_uring_prep_close_direct(sqe, slot);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, raw_tag(raw_close, slot));
}

unsigned char* raw_buffers(unsigned count) {
    void* memory = mmap(nullptr, std::size_t{count} * raw_stride, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        raw_fail("mmap", errno);
    return static_cast<unsigned char*>(memory);
}

} // namespace creel::bench::peers
