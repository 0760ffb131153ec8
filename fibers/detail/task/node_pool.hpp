// Memory for tasks: nodes of a few sizes, recycled, given back when many lie idle or when they have
// done so for a while.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace creel::detail {

// Nodes come from slabs, so that spawning costs no malloc in the steady state and a burst of a
// million tasks gives its memory back. Threads: the scheduler's own.
class node_pool {
public:
    node_pool() = default;
    node_pool(const node_pool&) = delete;
    node_pool& operator=(const node_pool&) = delete;
    ~node_pool();

    // At least `bytes`, aligned for any type without extended alignment; the size that must be
    // given back goes to `granted`. Throws std::bad_alloc. Cost: a few loads and stores, a malloc
    // for sizes above the largest class.
    void* allocate(std::size_t bytes, std::uint32_t& granted) {
        const std::size_t index = bytes <= class_bytes[0] ? 0 : class_of(bytes);
        if (index < class_bytes.size())
            if (free_node* warm = classes_[index].warm) [[likely]] {
                classes_[index].warm = warm->next;
                --classes_[index].warm_count;
                granted = class_bytes[index];
                return warm;
            }
        return allocate_cold(bytes, index, granted);
    }
    void deallocate(void* node, std::uint32_t granted) noexcept {
        const std::size_t index = granted == class_bytes[0] ? 0 : class_of(granted);
        if (granted == 0 || classes_[index].warm_count >= most_warm) [[unlikely]] {
            deallocate_cold(node, granted, index);
            return;
        }
        auto* f = static_cast<free_node*>(node);
        f->next = classes_[index].warm;
        classes_[index].warm = f;
        ++classes_[index].warm_count;
    }
    // The same for a node that need not stay warm.
    void deallocate_unneeded(void* node, std::uint32_t granted) noexcept;

    // Gives back what was not needed since the last call: slabs to the system, but for one in each
    // class, and warm nodes, of which a moment's count tells, to their slabs.
    void trim() noexcept;
    // True if that may give something, now or the next time.
    [[nodiscard]] bool has_surplus() const noexcept;

    // Nodes that will outlive the pool: what their slabs hold is left to deallocate_left_behind.
    void leave_behind(std::size_t nodes) noexcept { left_behind_ = nodes; }
    // Frees a node whose pool has been destroyed. Threads: any.
    static void deallocate_left_behind(void* node, std::uint32_t granted) noexcept;

private:
    struct slab;
    struct free_node {
        free_node* next;
    };
    struct size_class {
        free_node* warm = nullptr; // freed last, to be used next
        std::uint32_t warm_count = 0;
        slab* partial = nullptr; // slabs that have a free node, doubly linked
        std::size_t empty_slabs = 0;
        std::size_t unneeded_slabs = 0; // least number of empty ones since the last trim
        std::uint32_t warm_at_trim = 0;
    };

    static constexpr std::array<std::uint32_t, 3> class_bytes{192, 320, 640};
    static constexpr std::size_t slab_bytes = 64 * 1024;
    static constexpr std::size_t kept_empty_slabs = 16; // per class: 1 MiB
    static constexpr std::uint32_t most_warm = 1024;    // per class

    // The first class that holds so many bytes; class_bytes.size() if none does.
    static std::size_t class_of(std::size_t bytes) noexcept {
        std::size_t index = 0;
        while (index < class_bytes.size() && bytes > class_bytes[index])
            ++index;
        return index;
    }

    void* allocate_cold(std::size_t bytes, std::size_t index, std::uint32_t& granted);
    void deallocate_cold(void* node, std::uint32_t granted, std::size_t index) noexcept;
    void return_to_slab(void* node, std::size_t index) noexcept;
    void return_unneeded(void* node, std::size_t index) noexcept;
    void* allocate_from_new_slab(std::size_t index);
    void free_empty_slabs(size_class& c, std::size_t count) noexcept;
    static slab& slab_of(void* node) noexcept;
    static void unlink(size_class& c, slab& s) noexcept;
    static void link(size_class& c, slab& s) noexcept;

    std::array<size_class, class_bytes.size()> classes_{};
    std::size_t left_behind_ = 0;
};

} // namespace creel::detail
