// The bytes that a stream has received and that no recv has taken yet, in the order of arrival.
//
//     oldest                                                     newest
//     [ block on the heap ]  [ buffer of the ring ]  [ buffer ]  [ buffer ]
//       block_taken_bytes_     first_, first_taken_bytes_          last_
//
// Each part may be absent. A buffer goes back to its ring when all its bytes are taken. to_heap()
// makes one block of all parts, so that the bytes need no ring.
//
// Threads: the ring's, while there are buffers.
#pragma once

#include <creel/io/detail/ring/receive_buffers.hpp>

#include <cstddef>
#include <memory>
#include <span>

namespace creel::io::detail {

class held_bytes {
public:
    held_bytes() = default;
    ~held_bytes() { drop(); }
    held_bytes(const held_bytes&) = delete;
    held_bytes& operator=(const held_bytes&) = delete;

    [[nodiscard]] bool empty() const noexcept { return buffers_ == 0 && block_ == nullptr; }
    [[nodiscard]] bool on_heap() const noexcept { return block_ != nullptr; }
    [[nodiscard]] unsigned buffers() const noexcept { return buffers_; }
    [[nodiscard]] std::size_t size_bytes() const noexcept;

    // Takes over the buffer. Its first `taken_bytes` have been copied already, which is possible
    // only if nothing is held. All buffers held at one time are of one pool.
    void add(receive_buffers& pool, unsigned id, std::size_t size_bytes,
             std::size_t taken_bytes) noexcept;
    // Copies the oldest bytes and forgets them. Returns their number.
    std::size_t take(std::span<std::byte> buffer) noexcept;
    // False: there is no memory, and all stays where it is.
    [[nodiscard]] bool to_heap() noexcept;
    void drop() noexcept;

private:
    void give_first_back() noexcept;

    std::unique_ptr<std::byte[]> block_{}; // null: nothing is on the heap
    std::size_t block_bytes_ = 0;
    std::size_t block_taken_bytes_ = 0;
    receive_buffers* pool_ = nullptr; // of the buffers; not read while there are none
    unsigned buffers_ = 0;            // linked from first_ to last_
    unsigned first_ = 0;
    unsigned last_ = 0;
    std::size_t first_taken_bytes_ = 0;
};

} // namespace creel::io::detail
