// Memory for tasks: nodes of a few sizes, recycled, given back when many lie idle.
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
    void* allocate(std::size_t bytes, std::uint32_t& granted);
    void deallocate(void* node, std::uint32_t granted) noexcept;

private:
    struct slab;
    struct free_node {
        free_node* next;
    };
    struct size_class {
        slab* partial = nullptr; // slabs that have a free node, doubly linked
        std::size_t empty_slabs = 0;
    };

    static constexpr std::array<std::uint32_t, 3> class_bytes{192, 320, 640};
    static constexpr std::size_t slab_bytes = 64 * 1024;
    static constexpr std::size_t kept_empty_slabs = 16; // per class: 1 MiB

    void* allocate_from_new_slab(std::size_t index);
    static void unlink(size_class& c, slab& s) noexcept;
    static void link(size_class& c, slab& s) noexcept;

    std::array<size_class, class_bytes.size()> classes_{};
};

} // namespace creel::detail
