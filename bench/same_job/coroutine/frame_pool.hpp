#pragma once

// The memory of coroutine frames. A frame that ends is kept for the next of its size, so a steady
// server allocates none. Sizes are in steps of 16 bytes; frames above 4 KiB go to the heap.

#include <array>
#include <cstddef>
#include <new>

namespace same_job::coroutine {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool reuse_frames = false; // AddressSanitizer is to see each frame's end
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool reuse_frames = false;
#else
inline constexpr bool reuse_frames = true;
#endif
#else
inline constexpr bool reuse_frames = true;
#endif

class frame_pool {
public:
    static void* allocate(std::size_t bytes) {
        const std::size_t size = steps(bytes);
        if (reuse_frames && size < free_.size() && free_[size] != nullptr) {
            free_frame* const reused = free_[size];
            free_[size] = reused->next;
            return reused;
        }
        return ::operator new(size* step_bytes);
    }

    static void deallocate(void* memory, std::size_t bytes) noexcept {
        const std::size_t size = steps(bytes);
        if (reuse_frames && size < free_.size())
            free_[size] = ::new (memory) free_frame{free_[size]};
        else
            ::operator delete(memory);
    }

private:
    struct free_frame {
        free_frame* next;
    };
    static constexpr std::size_t step_bytes = 16;
    static constexpr std::size_t steps(std::size_t bytes) noexcept {
        return (bytes + step_bytes - 1) / step_bytes;
    }

    static inline constinit thread_local std::array<free_frame*, 257> free_{};
};

} // namespace same_job::coroutine
