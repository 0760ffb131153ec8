#include <creel/fibers/detail/task/node_pool.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>

#include <algorithm>
#include <atomic>
#include <new>

#include <sys/mman.h>

namespace creel::detail {

#if CREEL_UNDER_ASAN || CREEL_UNDER_TSAN
// Recycled nodes would hide a use after free from the sanitizers.
constexpr bool recycle = false;
#else
constexpr bool recycle = true;
#endif

// Lies at the start of an aligned slab, so that a node finds it by masking its own address.
struct node_pool::slab {
    slab* next;
    slab* previous;
    free_node* free;
    std::uint32_t used;
    std::uint32_t capacity;
    std::uint32_t fresh; // nodes never handed out yet begin here: a new slab touches no page
    std::uint32_t node_bytes;
};

namespace {

constexpr std::size_t header_bytes = 64;
constexpr std::size_t kept_after_trim = 1; // empty slabs, of each class

void* map(std::size_t bytes) noexcept {
    void* const memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED ? memory : nullptr;
}

// Not from malloc, which keeps all memory below a block that is still in use. So the memory of a
// slab goes back when the slab does. Aligned to its size; null without memory. The kernel joins
// neighbours to one mapping, and behind an aligned mapping the next one is mostly aligned, too.
void* map_slab(std::size_t bytes) noexcept {
    const auto misfit = [bytes](void* at) {
        return reinterpret_cast<std::uintptr_t>(at) & (bytes - 1);
    };
    void* const first = map(bytes);
    if (first == nullptr || misfit(first) == 0)
        return first;
    ::munmap(first, bytes);
    auto* const wide = static_cast<std::byte*>(map(2 * bytes));
    if (wide == nullptr)
        return nullptr;
    const std::size_t before = misfit(wide) == 0 ? 0 : bytes - misfit(wide);
    if (before != 0)
        ::munmap(wide, before);
    ::munmap(wide + before + bytes, bytes - before);
    return wide + before;
}

void unmap_slab(void* slab, std::size_t bytes) noexcept {
    // At vm.max_map_count the kernel cannot split a mapping. Then only the address space is lost.
    if (::munmap(slab, bytes) != 0)
        ::madvise(slab, bytes, MADV_DONTNEED);
}

} // namespace

void node_pool::link(size_class& c, slab& s) noexcept {
    s.next = c.partial;
    s.previous = nullptr;
    if (c.partial != nullptr)
        c.partial->previous = &s;
    c.partial = &s;
}

void node_pool::unlink(size_class& c, slab& s) noexcept {
    (s.previous != nullptr ? s.previous->next : c.partial) = s.next;
    if (s.next != nullptr)
        s.next->previous = s.previous;
}

node_pool::~node_pool() {
    for (size_class& c : classes_) {
        while (slab* s = c.partial) {
            CREEL_ASSERT(s->used <= left_behind_, "a task outlived its scheduler");
            left_behind_ -= s->used;
            unlink(c, *s);
            if (s->used == 0)
                unmap_slab(s, slab_bytes);
        }
    }
}

void* node_pool::allocate(std::size_t bytes, std::uint32_t& granted) {
    const std::size_t index = class_of(bytes);
    if (!recycle || index == class_bytes.size()) {
        granted = 0;
        return ::operator new(bytes);
    }
    granted = class_bytes[index];
    size_class& c = classes_[index];
    slab* s = c.partial;
    if (s == nullptr)
        return allocate_from_new_slab(index);
    if (s->used == 0)
        c.unneeded_slabs = std::min(c.unneeded_slabs, --c.empty_slabs);
    void* node;
    if (s->free != nullptr) {
        node = s->free;
        s->free = s->free->next;
    } else {
        node = reinterpret_cast<std::byte*>(s) + header_bytes + std::size_t{s->fresh} * granted;
        ++s->fresh;
    }
    if (++s->used == s->capacity)
        unlink(c, *s);
    return node;
}

void* node_pool::allocate_from_new_slab(std::size_t index) {
    auto* s = static_cast<slab*>(map_slab(slab_bytes));
    if (s == nullptr)
        throw std::bad_alloc{};
    static_assert(sizeof(slab) <= header_bytes);
    const std::uint32_t node_bytes = class_bytes[index];
    *s = slab{nullptr,
              nullptr,
              nullptr,
              1,
              static_cast<std::uint32_t>((slab_bytes - header_bytes) / node_bytes),
              1,
              node_bytes};
    link(classes_[index], *s);
    return reinterpret_cast<std::byte*>(s) + header_bytes;
}

void node_pool::deallocate(void* node, std::uint32_t granted) noexcept {
    if (granted == 0)
        ::operator delete(node);
    else
        return_to_slab(node, class_of(granted));
}

void node_pool::deallocate_unneeded(void* node, std::uint32_t granted) noexcept {
    if (granted == 0) {
        ::operator delete(node);
        return;
    }
    const std::size_t index = class_of(granted);
    size_class& c = classes_[index];
    const std::size_t empty_before = c.empty_slabs;
    return_to_slab(node, index);
    if (c.empty_slabs > empty_before)
        ++c.unneeded_slabs;
}

void node_pool::return_to_slab(void* node, std::size_t index) noexcept {
    size_class& c = classes_[index];
    slab& s = slab_of(node);
    auto* f = static_cast<free_node*>(node);
    f->next = s.free;
    s.free = f;
    if (s.used == s.capacity)
        link(c, s);
    if (--s.used == 0 && ++c.empty_slabs > kept_empty_slabs) {
        c.unneeded_slabs = std::min(c.unneeded_slabs, --c.empty_slabs);
        unlink(c, s);
        unmap_slab(&s, slab_bytes);
    }
}

void node_pool::trim() noexcept {
    for (size_class& c : classes_) {
        free_empty_slabs(c, std::min(c.unneeded_slabs,
                                     c.empty_slabs - std::min(c.empty_slabs, kept_after_trim)));
        c.unneeded_slabs = c.empty_slabs;
    }
}

bool node_pool::has_surplus() const noexcept {
    return std::any_of(classes_.begin(), classes_.end(),
                       [](const size_class& c) { return c.empty_slabs > kept_after_trim; });
}

void node_pool::free_empty_slabs(size_class& c, std::size_t count) noexcept {
    for (slab* s = c.partial; s != nullptr && count != 0;) {
        slab* const next = s->next;
        if (s->used == 0) {
            unlink(c, *s);
            unmap_slab(s, slab_bytes);
            --c.empty_slabs;
            --count;
        }
        s = next;
    }
}

node_pool::slab& node_pool::slab_of(void* node) noexcept {
    return *reinterpret_cast<slab*>(reinterpret_cast<std::uintptr_t>(node) & ~(slab_bytes - 1));
}

// Several threads may hold nodes of one slab; the last frees it. acq_rel: what the others did to
// their nodes comes before.
void node_pool::deallocate_left_behind(void* node, std::uint32_t granted) noexcept {
    if (granted == 0) {
        ::operator delete(node);
        return;
    }
    slab& s = slab_of(node);
    if (std::atomic_ref<std::uint32_t>{s.used}.fetch_sub(1, std::memory_order_acq_rel) == 1)
        unmap_slab(&s, slab_bytes);
}

} // namespace creel::detail
