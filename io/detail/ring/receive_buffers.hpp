// The buffers of one ring from which the kernel chooses ("provided buffers",
// io_uring_register_buf_ring(3)): a standing receive takes one for each message.
//
//     with the kernel ── taken(): a completion names it ──► out ── give_back() ──► with the kernel
#pragma once

#include <array>
#include <cstddef>

struct io_uring;
struct io_uring_buf_ring;

namespace creel::io::detail {

class receive_buffers {
public:
    static constexpr unsigned short group = 0;
    static constexpr std::size_t buffer_bytes = 2048;
    static constexpr unsigned count = 256; // a power of two

    // If the kernel refuses, or there is no memory, usable() is false.
    explicit receive_buffers(io_uring& uring) noexcept;
    // All buffers must have been given back.
    ~receive_buffers();
    receive_buffers(const receive_buffers&) = delete;
    receive_buffers& operator=(const receive_buffers&) = delete;

    [[nodiscard]] bool usable() const noexcept { return usable_; }
    void refuse() noexcept { usable_ = false; } // the kernel has buffers, but not such receives

    void taken() noexcept { ++out_; }
    void give_back(unsigned id) noexcept;
    [[nodiscard]] const std::byte* bytes(unsigned id) const noexcept {
        return memory_ + id * stride_bytes;
    }
    [[nodiscard]] unsigned out() const noexcept { return out_; }

    // For the holder of a buffer: how much it holds, and a link to the next buffer.
    struct note {
        unsigned size_bytes;
        unsigned next;
    };
    [[nodiscard]] note& on(unsigned id) noexcept { return notes_[id]; }

private:
    // 528 KiB in all, of which only the used pages become resident. Short messages use the first
    // cache lines of a buffer. An odd number of lines from one buffer to the next spreads them over
    // the sets of the cache.
    static constexpr std::size_t stride_bytes = buffer_bytes + 64;

    io_uring& uring_;
    std::array<note, count> notes_{};
    io_uring_buf_ring* queue_ = nullptr; // a page that the kernel reads in place
    std::byte* memory_ = nullptr;
    unsigned out_ = 0;
    bool usable_ = false;
};

} // namespace creel::io::detail
