#include <creel/io/detail/socket/held_bytes.hpp>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace creel::io::detail {

std::size_t held_bytes::size_bytes() const noexcept {
    std::size_t bytes = block_bytes_ - block_taken_bytes_;
    unsigned id = first_;
    for (unsigned i = 0; i < buffers_; ++i) {
        bytes += pool_->on(id).size_bytes;
        id = pool_->on(id).next;
    }
    return bytes - first_taken_bytes_;
}

void held_bytes::add(receive_buffers& pool, unsigned id, std::size_t size_bytes,
                     std::size_t taken_bytes) noexcept {
    pool.on(id).size_bytes = static_cast<unsigned>(size_bytes);
    if (buffers_ == 0) {
        pool_ = &pool;
        first_ = id;
        first_taken_bytes_ = taken_bytes;
    } else {
        pool.on(last_).next = id;
    }
    last_ = id;
    ++buffers_;
}

std::size_t held_bytes::take(std::span<std::byte> buffer) noexcept {
    std::size_t n = 0;
    if (block_ != nullptr) {
        n = std::min(buffer.size(), block_bytes_ - block_taken_bytes_);
        std::memcpy(buffer.data(), block_.get() + block_taken_bytes_, n);
        block_taken_bytes_ += n;
        if (block_taken_bytes_ == block_bytes_) {
            block_.reset();
            block_bytes_ = block_taken_bytes_ = 0;
        }
    }
    while (buffers_ != 0 && n < buffer.size()) {
        const std::size_t first_bytes = pool_->on(first_).size_bytes;
        const std::size_t part = std::min(buffer.size() - n, first_bytes - first_taken_bytes_);
        std::memcpy(buffer.data() + n, pool_->bytes(first_) + first_taken_bytes_, part);
        n += part;
        first_taken_bytes_ += part;
        if (first_taken_bytes_ != first_bytes)
            break;
        give_first_back();
    }
    return n;
}

void held_bytes::give_first_back() noexcept {
    const unsigned next = pool_->on(first_).next;
    pool_->give_back(first_);
    first_ = next;
    first_taken_bytes_ = 0;
    --buffers_;
}

bool held_bytes::to_heap() noexcept {
    if (buffers_ == 0)
        return true;
    const std::size_t bytes = size_bytes();
    std::unique_ptr<std::byte[]> all{new (std::nothrow) std::byte[bytes]};
    if (all == nullptr)
        return false;
    take({all.get(), bytes});
    block_ = std::move(all);
    block_bytes_ = bytes;
    block_taken_bytes_ = 0;
    return true;
}

void held_bytes::drop() noexcept {
    while (buffers_ != 0)
        give_first_back();
    block_.reset();
    block_bytes_ = block_taken_bytes_ = 0;
}

} // namespace creel::io::detail
