#include <creel/io/detail/ring/receive_buffers.hpp>

#include <creel/fibers/assert.hpp>

#include <cstdint>
#include <liburing.h>
#include <sys/mman.h>

namespace creel::io::detail {

namespace {
constexpr std::size_t queue_bytes = 4096; // one page, or a part of one
} // namespace

receive_buffers::receive_buffers(io_uring& uring) noexcept : uring_(uring) {
    static_assert(count * sizeof(io_uring_buf) == queue_bytes);
    void* memory = ::mmap(nullptr, queue_bytes + count * stride_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return;
    queue_ = static_cast<io_uring_buf_ring*>(memory);
    memory_ = static_cast<std::byte*>(memory) + queue_bytes;
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
    registration.ring_entries = count;
    registration.bgid = group;
    if (io_uring_register_buf_ring(&uring_, &registration, 0) != 0)
        return;
    usable_ = true;
    io_uring_buf_ring_init(queue_);
    for (unsigned id = 0; id < count; ++id)
        io_uring_buf_ring_add(queue_, memory_ + id * stride_bytes, buffer_bytes,
                              static_cast<unsigned short>(id), io_uring_buf_ring_mask(count),
                              static_cast<int>(id));
    io_uring_buf_ring_advance(queue_, static_cast<int>(count));
}

receive_buffers::~receive_buffers() {
    if (queue_ == nullptr)
        return;
    CREEL_ASSERT(out_ == 0, "a provided buffer did not come back before its ring ended");
    io_uring_unregister_buf_ring(&uring_, group); // refused if it was never registered
    ::munmap(queue_, queue_bytes + count * stride_bytes);
}

void receive_buffers::give_back(unsigned id) noexcept {
    --out_;
    io_uring_buf_ring_add(queue_, memory_ + id * stride_bytes, buffer_bytes,
                          static_cast<unsigned short>(id), io_uring_buf_ring_mask(count), 0);
    io_uring_buf_ring_advance(queue_, 1);
}

} // namespace creel::io::detail
