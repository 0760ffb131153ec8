// The memory of a trace: events in a buffer of fixed size, in which the newest overwrite the
// oldest.
//
// Each event lies there as a header, which is shorter for the kinds without a spawn site, and a
// text. One that does not fit before the end of the buffer begins at its start again.
#pragma once

#include <creel/fibers/time.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace creel::detail {

enum class event_kind : std::uint8_t {
    ran,       // a slice of a fiber
    waited,    // from its park to its wake; `other` woke it, 0: the outside world did
    spawned,   // `other` is the child; with its spawn site
    ended,     // with the name and the spawn site of its task
    cancelled, // a scope
    polled,    // without blocking; `other` is a poll_yield, as in the next two
    slept,     // in the kernel, perhaps
    spun,
    unused // the end of the buffer, where the next event did not fit
};

// How a wait ended: a wake_reason, or that it goes on.
inline constexpr std::uint8_t still_waits = 0xff;

// Times are those of the run's poller.
struct event {
    std::uint16_t bytes = 0; // in the ring, with the text; a multiple of 8
    std::uint16_t text_bytes = 0;
    event_kind kind = event_kind::unused;
    std::uint8_t how = 0;
    std::uint64_t fiber = 0; // its number; 0: the thread outside of its fibers
    std::int64_t began = 0;  // ns
    std::int64_t length = 0; // ns
    std::uint64_t other = 0;
    const char* file = nullptr; // from here on: not in a brief event
    std::uint32_t line = 0;
};

// What the poller has done in a poll or a sleep, in the 64 bits of event::other.
struct poll_yield {
    std::uint32_t completions;
    std::uint32_t system_calls;
};

// Threads: its scheduler's own.
class event_ring {
public:
    // Throws: std::bad_alloc.
    explicit event_ring(std::size_t bytes);
    ~event_ring();
    event_ring(const event_ring&) = delete;
    event_ring& operator=(const event_ring&) = delete;

    // Sets e.bytes and e.text_bytes. Cuts a text off that is longer than most_text_bytes.
    void add(event e, std::string_view text) noexcept;

    // visit(const event&, std::string_view text), the oldest first.
    template <typename Visit>
    void for_each(Visit visit) const {
        std::size_t at = oldest_;
        for (std::size_t left = used_; left != 0;) {
            event e;
            std::memcpy(static_cast<void*>(&e), memory_ + at, header_prefix_bytes);
            if (e.kind != event_kind::unused) {
                const std::size_t header = header_bytes(e.kind);
                std::memcpy(static_cast<void*>(&e), memory_ + at, header);
                visit(e, std::string_view{reinterpret_cast<const char*>(memory_ + at + header),
                                          e.text_bytes});
            }
            left -= e.bytes;
            at = (at + e.bytes) % bytes_;
        }
    }

    [[nodiscard]] std::uint64_t overwritten() const noexcept { return overwritten_; }

private:
    static constexpr std::size_t least_bytes = 4096;
    static constexpr std::size_t most_text_bytes = 255;
    static constexpr std::size_t header_prefix_bytes = 8; // up to `fiber`
    static constexpr std::size_t brief_event_bytes = offsetof(event, file);
    static_assert(offsetof(event, fiber) == header_prefix_bytes);

    static constexpr std::size_t header_bytes(event_kind kind) noexcept {
        return kind == event_kind::spawned || kind == event_kind::ended ? sizeof(event)
                                                                        : brief_event_bytes;
    }
    void make_room(std::size_t bytes) noexcept;

    std::size_t bytes_; // a multiple of 8
    std::byte* memory_;
    std::size_t oldest_ = 0;
    std::size_t end_ = 0; // where the next one goes
    std::size_t used_ = 0;
    std::uint64_t overwritten_ = 0;
};

} // namespace creel::detail
