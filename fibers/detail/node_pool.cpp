#include <creel/fibers/detail/node_pool.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/instrumented.hpp>

#include <atomic>
#include <cstdlib>
#include <new>

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
}

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
    for (std::size_t index = 0; index < classes_.size(); ++index) {
        size_class& c = classes_[index];
        while (free_node* f = c.warm) {
            c.warm = f->next;
            return_to_slab(f, index);
        }
        while (slab* s = c.partial) {
            CREEL_ASSERT(s->used <= left_behind_, "a task outlived its scheduler");
            left_behind_ -= s->used;
            unlink(c, *s);
            if (s->used == 0)
                std::free(s);
        }
    }
}

void* node_pool::allocate_cold(std::size_t bytes, std::size_t index, std::uint32_t& granted) {
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
        --c.empty_slabs;
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
    auto* s = static_cast<slab*>(std::aligned_alloc(slab_bytes, slab_bytes));
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

void node_pool::deallocate_cold(void* node, std::uint32_t granted, std::size_t index) noexcept {
    if (granted == 0)
        ::operator delete(node);
    else
        return_to_slab(node, index);
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
        --c.empty_slabs;
        unlink(c, s);
        std::free(&s);
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
        std::free(&s);
}

} // namespace creel::detail
