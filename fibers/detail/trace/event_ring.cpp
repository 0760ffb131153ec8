#include <creel/fibers/detail/trace/event_ring.hpp>

#include <algorithm>
#include <new>

#include <sys/mman.h>

namespace creel::detail {

// The kernel gives a page when the first event is written to it.
event_ring::event_ring(std::size_t bytes) : bytes_(std::max(bytes, least_bytes) / 8 * 8) {
    void* const memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        throw std::bad_alloc{};
    memory_ = static_cast<std::byte*>(memory);
}

event_ring::~event_ring() {
    ::munmap(memory_, bytes_);
}

void event_ring::make_room(std::size_t bytes) noexcept {
    while (bytes_ - used_ < bytes) {
        event oldest;
        std::memcpy(static_cast<void*>(&oldest), memory_ + oldest_, header_prefix_bytes);
        if (oldest.kind != event_kind::unused)
            ++overwritten_;
        used_ -= oldest.bytes;
        oldest_ = (oldest_ + oldest.bytes) % bytes_;
    }
}

void event_ring::add(event e, std::string_view text) noexcept {
    text = text.substr(0, most_text_bytes);
    const std::size_t header = header_bytes(e.kind);
    const std::size_t needed = (header + text.size() + 7) / 8 * 8;
    if (const std::size_t rest = bytes_ - end_; rest < needed) {
        make_room(rest);
        event unused;
        unused.bytes = static_cast<std::uint16_t>(rest);
        std::memcpy(memory_ + end_, &unused, header_prefix_bytes);
        used_ += rest;
        end_ = 0;
    }
    make_room(needed);
    e.bytes = static_cast<std::uint16_t>(needed);
    e.text_bytes = static_cast<std::uint16_t>(text.size());
    std::memcpy(memory_ + end_, &e, header);
    if (!text.empty())
        std::memcpy(memory_ + end_ + header, text.data(), text.size());
    used_ += needed;
    end_ = (end_ + needed) % bytes_;
}

} // namespace creel::detail
