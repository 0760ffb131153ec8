// Memory for tasks: nodes of a few sizes, from slabs. A burst of a million tasks gives its memory
// back, slab by slab. Nodes that are used again and again stay in the task_store.
//
// The states of a slab, by the number of its nodes in use:
//
//   (none) -- 1 allocate_from_new_slab() -> partial
//   partial -- 2 allocate(): the last ----> full      it is in no list then
//   full ----- 3 return_to_slab() --------> partial
//   partial -- 4 return_to_slab(): empty -> empty     in the same list; at most 16 of a class stay
//   empty ---- 5 allocate() --------------> partial
//   empty ---- 6 trim(), return_to_slab() > (none)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace creel::detail {

// Threads: the scheduler's own.
class node_pool {
public:
    static constexpr std::array<std::uint32_t, 3> class_bytes{192, 320, 640};
    // The first class that holds this many bytes; class_bytes.size() if none does.
    static std::size_t class_of(std::size_t bytes) noexcept {
        std::size_t index = 0;
        while (index < class_bytes.size() && bytes > class_bytes[index])
            ++index;
        return index;
    }

    node_pool() = default;
    node_pool(const node_pool&) = delete;
    node_pool& operator=(const node_pool&) = delete;
    ~node_pool();

    // At least `bytes`, aligned for any type without extended alignment; `granted` becomes the size
    // that must be given back.
    // Throws: std::bad_alloc. Cost: some loads and stores; a malloc for sizes above the largest
    // class, and a system call for each new slab.
    void* allocate(std::size_t bytes, std::uint32_t& granted);
    void deallocate(void* node, std::uint32_t granted) noexcept;
    // The same for a node that was not needed lately, so that its slab, if it gets empty, is not
    // needed either.
    void deallocate_unneeded(void* node, std::uint32_t granted) noexcept;

    // Gives slabs that were not needed since the last call back to the system, but for one in each
    // class.
    void trim() noexcept;
    // True if trim() may give something back, now or the next time.
    [[nodiscard]] bool has_surplus() const noexcept;

    // This many nodes will outlive the pool: their slabs are left to deallocate_left_behind.
    void leave_behind(std::size_t nodes) noexcept { left_behind_ = nodes; }
    // Frees a node whose pool has been destroyed. Threads: any.
    static void deallocate_left_behind(void* node, std::uint32_t granted) noexcept;

private:
    struct slab;
    struct free_node {
        free_node* next;
    };
    struct size_class {
        slab* partial = nullptr; // slabs that have a free node, doubly linked
        std::size_t empty_slabs = 0;
        std::size_t unneeded_slabs = 0; // least number of empty ones since the last trim
    };

    static constexpr std::size_t slab_bytes = 64 * 1024;
    static constexpr std::size_t kept_empty_slabs = 16; // per class: 1 MiB

    void return_to_slab(void* node, std::size_t index) noexcept;
    void* allocate_from_new_slab(std::size_t index);
    void free_empty_slabs(size_class& c, std::size_t count) noexcept;
    static slab& slab_of(void* node) noexcept;
    static void unlink(size_class& c, slab& s) noexcept;
    static void link(size_class& c, slab& s) noexcept;

    std::array<size_class, class_bytes.size()> classes_{};
    std::size_t left_behind_ = 0;
};

} // namespace creel::detail
