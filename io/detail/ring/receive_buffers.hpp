// The buffers of one ring that the kernel fills by its own choice ("provided buffers",
// io_uring_register_buf_ring(3)): a receive that stands takes one for each message.
//
// A buffer is out from the completion that names it until give_back(). Those that are not out are
// all in the kernel's hands.
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

    // Where the kernel refuses, or there is no memory, usable() is false.
    explicit receive_buffers(io_uring& uring) noexcept;
    // All must have been given back.
    ~receive_buffers();
    receive_buffers(const receive_buffers&) = delete;
    receive_buffers& operator=(const receive_buffers&) = delete;

    [[nodiscard]] bool usable() const noexcept { return usable_; }
    void refuse() noexcept { usable_ = false; } // the kernel knows buffers, but not such receives

    void taken() noexcept { ++out_; }
    void give_back(unsigned id) noexcept;
    [[nodiscard]] const std::byte* bytes(unsigned id) const noexcept {
        return memory_ + id * stride_bytes;
    }
    [[nodiscard]] unsigned out() const noexcept { return out_; }

    // For whoever has a buffer: what it holds, and a link to the next one.
    struct note {
        unsigned size_bytes;
        unsigned next;
    };
    [[nodiscard]] note& on(unsigned id) noexcept { return notes_[id]; }

private:
    // 512 KiB, of which only what is used becomes resident. Short messages use the first lines of a
    // buffer; an odd number of lines from one to the next spreads them over the cache's sets.
    static constexpr std::size_t stride_bytes = buffer_bytes + 64;

    io_uring& uring_;
    std::array<note, count> notes_{};
    io_uring_buf_ring* queue_ = nullptr; // a page the kernel reads in place
    std::byte* memory_ = nullptr;
    unsigned out_ = 0;
    bool usable_ = false;
};

} // namespace creel::io::detail
