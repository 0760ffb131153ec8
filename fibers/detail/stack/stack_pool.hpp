#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <vector>

// The stacks of one scheduler's fibers: guarded, kept warm, a million of them if need be.
//
//     stack_memory stack = pool.allocate(256 * 1024);
//     // a fiber runs down from stack.top
//     pool.release(stack);
//     while (pool.trim_unneeded(1 << 26) != 0) {}  // what nobody has asked for since the last
//     pool.begin_period();
//
// Sizes are rounded up to a power of two, and all of it is usable: the guard lies below, in
// addition. It is 17 pages wide, so that a frame of up to 64 KiB cannot step over it where the code
// was not built with -fstack-clash-protection; and an odd number, so that stacks follow each other
// at an odd number of pages, and their tops, which are all that most fibers ever touch, spread over
// the sets of the TLB and of the caches that page tables live in. At 64 pages from one top to the
// next, a walk over the tops of 100 to 1,000 stacks took 1.7 to 3.8 times as long (AMD EPYC, kernel
// 6.18).
//
// Stacks come from arenas, which are reserved address space: 16 stacks at first, then twice as many
// each time up to 1,024. The pool writes nothing into them, so a stack costs no memory before a
// fiber touches it, nor after a trim. Beside it, a stack costs the pool eight bytes.

namespace creel::detail {

struct stack_memory {
    std::byte* top = nullptr;
    std::size_t bytes = 0; // usable, from top - bytes up to top; both page aligned
};

// How a stack's guard is made. An madvise guard (MADV_GUARD_INSTALL, Linux 6.13) is a mark in the
// page table for each page, and many stacks get theirs in one call (process_madvise, Linux 6.15):
// 2.6 us a stack with the fault of its first page, where one call a stack takes 3.3. An mprotect
// guard splits its arena's mapping: two more mappings for each stack, and vm.max_map_count ends it
// at about 32,000 stacks.
enum class stack_guard { madvise, mprotect };

struct stack_pool_statistics {
    std::size_t stacks_in_use = 0;
    std::size_t stacks_idle = 0;
    std::size_t stacks_trimmed = 0; // of the idle ones: those that hold no memory
    std::size_t arenas = 0;
    std::size_t mapped_bytes = 0; // of address space, guards included
    stack_guard guard = stack_guard::madvise;
    std::size_t mprotect_guards = 0;
};

// No waiting will help with more than most_stack_bytes. Throws: std::invalid_argument, in which
// `whose` has them ("a run", "a spawn").
void check_stack_bytes(std::size_t bytes, const char* whose);

// Threads: the owner's only; stacks may be touched by any. Pinned, since fibers are.
class stack_pool {
public:
    // Falls back from madvise to mprotect by itself where the kernel refuses.
    explicit stack_pool(stack_guard preferred = stack_guard::madvise) noexcept;
    stack_pool(const stack_pool&) = delete;
    stack_pool& operator=(const stack_pool&) = delete;
    // All stacks must have been released.
    ~stack_pool();

    // At least `stack_bytes` and at least 16 KiB, filled with what its last user left in it.
    // Throws: std::bad_alloc when the process may have no more address space or mappings (idle
    // stacks of other sizes were given up for it, then), or above 1 GiB. Cost: 3 ns for a warm
    // stack, 10 ns for a trimmed one, about 1 us (the kernel making the guard) for a new one.
    [[nodiscard]] stack_memory allocate(std::size_t stack_bytes);

    // The next to be allocated in its size. Must not be called on the stack itself. Cost: 3 ns.
    void release(stack_memory stack) noexcept;

    // Of the idle stacks, the `keep_warm` released last in each size stay as they are; the others
    // give their memory back, and the arenas in which then no stack is warm or in use are unmapped.
    // Cost: a system call for each run of neighbouring stacks, or for each arena.
    void trim(std::size_t keep_warm) noexcept;

    // The same with the warm stacks that were not needed since begin_period() was called last: as
    // many as the least number that was warm meanwhile, and those of release_unneeded(). At most
    // `most_bytes` of stacks, but one at least; returns how many. To be called until that is 0.
    std::size_t trim_unneeded(std::size_t most_bytes) noexcept;
    void begin_period() noexcept;
    // Releases a stack that need not stay warm.
    void release_unneeded(stack_memory stack) noexcept;
    [[nodiscard]] bool has_warm() const noexcept { return warm_ != 0; }

    // Gives back what a stack in use holds below its upper `kept_bytes`, which must have all that
    // is alive on it. Cost: a system call.
    static void discard_below(stack_memory stack, std::size_t kept_bytes) noexcept;

    stack_pool_statistics statistics() const noexcept;

    // The stack in whose guard this address lies; one without a top if it lies in none. For a
    // handler of SIGSEGV on the owner's thread: it only reads.
    [[nodiscard]] stack_memory guarded_by(const void* address) const noexcept;

private:
    // One mapping: `stacks` times a guard with a stack above it.
    struct arena {
        std::byte* base;
        std::size_t bytes;
        std::size_t stacks;
        std::size_t live = 0; // stacks in use, warm, or guarded ahead of use; others do not count
        std::size_t mprotect_guards = 0;
    };

    struct size_class {
        std::size_t stack_bytes = 0;
        std::size_t in_use = 0;
        std::size_t slots = 0; // in all arenas; `idle` has room for as many, so release cannot fail

        // Tops of idle stacks, taken from the back: first the trimmed ones, then the warm ones.
        // This order and the arenas' sorting are all the bookkeeping there is: allocate and release
        // of warm stacks need no arena, and the rest finds it by address.
        std::vector<std::byte*> idle;
        std::size_t trimmed = 0;
        std::size_t unneeded = 0; // of the warm ones, see trim_unneeded()

        [[nodiscard]] std::size_t warm() const noexcept { return idle.size() - trimmed; }

        std::vector<arena> arenas;   // by address
        std::byte* unused = nullptr; // the stacks no one has had, all in the arena mapped last
        std::byte* unused_end = nullptr;
        std::byte* guarded = nullptr; // of the unused ones, those below it have their guard already
        std::size_t next_arena_stacks = 0; // zero: as many as the first one

        arena& arena_of(const std::byte* top) noexcept;
    };

    static constexpr std::size_t least_stack_bits = 14;
    static constexpr std::size_t most_stack_bits = 30;

    size_class& class_of(std::size_t stack_bytes);
    void trim_oldest(size_class& sizes, std::size_t count) noexcept;
    std::byte* take_trimmed(size_class& sizes) noexcept;
    std::byte* take_unused(size_class& sizes);
    void map_arena(size_class& sizes);
    void* map(std::size_t& stacks, std::size_t slot_bytes);
    void install_guards(size_class& sizes);
    std::size_t install_many(std::byte* first, std::size_t count, std::size_t slot_bytes) noexcept;
    void install_one(arena& target, std::byte* guard);
    void forget_guards_ahead(size_class& sizes) noexcept;
    void discard(size_class& sizes, std::byte* const* first, std::byte* const* last) noexcept;
    void unmap_idle_arenas(size_class& sizes) noexcept;
    static void shrink_idle(size_class& sizes) noexcept;
    void forget_in_valgrind(const arena& unmapped) noexcept;

    std::size_t page_bytes_;
    std::size_t guard_bytes_;
    stack_guard guard_;
    bool installs_many_; // until process_madvise is refused
    std::size_t mapped_bytes_ = 0;
    std::size_t warm_ = 0;                                   // in all sizes
    std::map<const std::byte*, unsigned> known_to_valgrind_; // by their tops; empty outside it
    std::array<size_class, most_stack_bits - least_stack_bits + 1> classes_;
};

} // namespace creel::detail
