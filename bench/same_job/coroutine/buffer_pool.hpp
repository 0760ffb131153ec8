#pragma once

// The buffers from which the kernel chooses for a multishot receive, as many and as large as those
// of creel's ring.

#include <array>
#include <cstddef>

#include <liburing.h>

namespace same_job::coroutine {

class buffer_pool {
public:
    static constexpr unsigned count = 256; // a power of two
    static constexpr std::size_t buffer_bytes = 2048;
    static constexpr unsigned short group = 0;

    explicit buffer_pool(io_uring& ring); // Throws: std::system_error.
    buffer_pool(const buffer_pool&) = delete;
    buffer_pool& operator=(const buffer_pool&) = delete;
    ~buffer_pool(); // after the ring's end

    [[nodiscard]] const std::byte* bytes(unsigned id) const noexcept {
        return memory_ + id * stride_bytes;
    }
    void give_back(unsigned id) noexcept;

    // For the holder of a buffer: what is left in it, and the buffer behind it.
    struct note {
        unsigned offset;
        unsigned size;
        unsigned next;
    };
    [[nodiscard]] note& on(unsigned id) noexcept { return notes_[id]; }

private:
    // The additional line spreads the first lines of the buffers over the sets of the cache.
    static constexpr std::size_t stride_bytes = buffer_bytes + 64;
    static constexpr std::size_t queue_bytes = count * sizeof(io_uring_buf);

    std::array<note, count> notes_{};
    io_uring_buf_ring* queue_ = nullptr;
    std::byte* memory_ = nullptr;
};

} // namespace same_job::coroutine
