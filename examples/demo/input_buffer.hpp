// The bytes of a peer that are not parsed yet: at most 16 KiB, whatever the peer does.
#pragma once

#include <creel/io/tcp_stream.hpp>

#include <array>
#include <cstddef>
#include <cstring>
#include <span>

namespace demo {

class input_buffer {
public:
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return std::span{storage_}.subspan(begin_, end_ - begin_);
    }
    [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }
    [[nodiscard]] bool full() const noexcept { return end_ - begin_ == storage_.size(); }

    void consume(std::size_t count) noexcept { begin_ += count; }

    // Receives once, and appends. The buffer must not be full(). Returns false at the end of the
    // stream.
    // Parks: until data comes. Cancel: yes, no byte is lost.
    [[nodiscard]] bool fill(creel::io::tcp_stream& stream) {
        if (begin_ > 0) {
            std::memmove(storage_.data(), storage_.data() + begin_, end_ - begin_);
            end_ -= begin_;
            begin_ = 0;
        }
        std::size_t count = stream.recv(std::span{storage_}.subspan(end_));
        end_ += count;
        return count > 0;
    }

private:
    std::array<std::byte, std::size_t{16} * 1024> storage_; // written before it is read
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

} // namespace demo
