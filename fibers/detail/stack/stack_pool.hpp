// The stacks of one scheduler's fibers: guarded, kept warm, a million of them if need be.
//
//     stack_memory stack = pool.allocate(256 * 1024);
//     // a fiber runs down from stack.top
//     pool.release(stack);
//     while (pool.trim_unneeded(1 << 26) != 0) {}  // stacks not needed in the last period
//     pool.begin_period();
//
// Sizes are rounded up to a power of two, and the whole size is usable: the guard lies below it, in
// addition. The guard is 17 pages wide. So a frame of up to 64 KiB cannot step over it in code that
// was built without -fstack-clash-protection. And the number is odd, so that stacks follow each
// other at an odd number of pages: their tops, which are all that most fibers ever touch, then
// spread over the sets of the TLB and of the caches that page tables live in. At 64 pages from one
// top to the next, a walk over the tops of 100 to 1,000 stacks took 1.7 to 3.8 times as long (AMD
// EPYC, kernel 6.18).
//
// Stacks come from arenas, which are reserved address space: 16 stacks at first, then twice as many
// each time up to 1,024. The pool writes nothing into them. So a stack costs no memory before a
// fiber touches it, and none after a trim. Besides, a stack costs the pool eight bytes.
//
// The states of a stack:
//
//     never used --1--> guarded --2--> in use --3--> warm --5--> trimmed
//                                       ^  ^          |             |
//                                       |  +----4-----+             |
//                                       +----------6----------------+
//     an arena without a stack that is guarded, in use or warm --7--> unmapped
//
//   1  install_guards()      the guard, for up to 32 stacks ahead of use
//   2  take_unused()
//   3  release()             idle, with the memory that its last fiber touched
//   4  allocate()            the warm stack that was released last
//   5  trim_oldest()         idle, without memory; the guard stays
//   6  take_trimmed()        if no stack of this size is warm
//   7  unmap_idle_arenas()   at the end of a trim, which first counts guarded stacks as never used
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <vector>

namespace creel::detail {

struct stack_memory {
    std::byte* top = nullptr;
    std::size_t bytes = 0; // usable, from top - bytes up to top; both page aligned
};

// How the guard of a stack is made. An madvise guard (MADV_GUARD_INSTALL, Linux 6.13) is a mark in
// the page table for each page. One call installs the guards of many stacks (process_madvise, Linux
// 6.15): 2.6 us a stack with the fault of its first page; with one call a stack it takes 3.3. An
// mprotect guard splits the mapping of its arena: two more mappings for each stack, so that
// vm.max_map_count allows about 32,000 stacks.
enum class stack_guard { madvise, mprotect };

struct stack_pool_statistics {
    std::size_t stacks_in_use = 0;
    std::size_t stacks_idle = 0;
    std::size_t stacks_trimmed = 0; // of the idle stacks: those that hold no memory
    std::size_t arenas = 0;
    std::size_t mapped_bytes = 0; // of address space, guards included
    stack_guard guard = stack_guard::madvise;
    std::size_t mprotect_guards = 0;
};

// Refuses more than most_stack_bytes, because no waiting would help. `owner` is for the message: "a
// run", "a spawn". Throws: std::invalid_argument.
void check_stack_bytes(std::size_t bytes, const char* owner);

// Threads: the owner's only; any thread may touch the stacks. Pinned, because fibers are.
class stack_pool {
public:
    // Falls back from madvise to mprotect by itself where the kernel refuses.
    explicit stack_pool(stack_guard preferred = stack_guard::madvise) noexcept;
    stack_pool(const stack_pool&) = delete;
    stack_pool& operator=(const stack_pool&) = delete;
    // All stacks must have been released.
    ~stack_pool();

    // A stack of at least `stack_bytes` and at least 16 KiB. It holds whatever its last user left.
    // Throws: std::bad_alloc when the process may have no more address space or mappings (the pool
    // has given up its idle stacks of all sizes by then), or above 1 GiB. Cost: 3 ns for a warm
    // stack, 10 ns for a trimmed one, about 1 us (the kernel makes the guard) for a new one.
    [[nodiscard]] stack_memory allocate(std::size_t stack_bytes);

    // The next allocate() of this size takes this stack. Must not be called on the stack itself.
    // Cost: 3 ns.
    void release(stack_memory stack) noexcept;

    // In each size the `keep_warm` idle stacks that were released last stay as they are. The others
    // give their memory back. Then the arenas in which no stack is warm or in use are unmapped.
    // Cost: a system call for each run of neighbouring stacks, or for each arena.
    void trim(std::size_t keep_warm) noexcept;

    // The same for the warm stacks that were not needed since the last begin_period(): as many as
    // the least number that was warm meanwhile, and those of release_unneeded(). At most
    // `most_bytes` of stacks, but at least one stack. Returns the number. Call it until it returns
    // 0.
    std::size_t trim_unneeded(std::size_t most_bytes) noexcept;
    void begin_period() noexcept;
    // Releases a stack that need not stay warm.
    void release_unneeded(stack_memory stack) noexcept;
    [[nodiscard]] bool has_warm() const noexcept { return warm_ != 0; }

    // Gives back the memory of a stack in use below its upper `kept_bytes`. All that is alive on
    // the stack must lie in these bytes. Cost: a system call.
    static void discard_below(stack_memory stack, std::size_t kept_bytes) noexcept;

    stack_pool_statistics statistics() const noexcept;

    // If this address lies in the guard of a stack, that stack; else a stack without a top. For a
    // handler of SIGSEGV on the owner's thread: it only reads.
    [[nodiscard]] stack_memory guarded_by(const void* address) const noexcept;

private:
    // One mapping: `stacks` times a guard with a stack above it.
    struct arena {
        std::byte* base;
        std::size_t bytes;
        std::size_t stacks;
        std::size_t live = 0; // stacks in use, warm, or guarded ahead of use; no others
        std::size_t mprotect_guards = 0;
    };

    struct size_class {
        std::size_t stack_bytes = 0;
        std::size_t in_use = 0;
        std::size_t slots = 0; // in all arenas; `idle` has room for as many, so release cannot fail

        // Tops of idle stacks, taken from the back: first the trimmed stacks, then the warm ones.
        // This order and the order of the arenas are all the bookkeeping there is: allocate() and
        // release() of warm stacks need no arena, and other functions find it by address.
        std::vector<std::byte*> idle;
        std::size_t trimmed = 0;
        std::size_t unneeded = 0; // of the warm stacks, see trim_unneeded()

        [[nodiscard]] std::size_t warm() const noexcept { return idle.size() - trimmed; }

        std::vector<arena> arenas;   // by address
        std::byte* unused = nullptr; // the stacks never used, all in the arena mapped last
        std::byte* unused_end = nullptr;
        std::byte* guarded = nullptr;      // the unused stacks below it have their guard already
        std::size_t next_arena_stacks = 0; // zero: as many as the first arena has

        arena& arena_of(const std::byte* top) noexcept;
    };

    static constexpr std::size_t least_stack_bits = 14;
    static constexpr std::size_t most_stack_bits = 30;
    static constexpr std::size_t most_arena_stacks = 1024;

    size_class& class_of(std::size_t stack_bytes);
    std::byte* take_trimmed(size_class& sizes) noexcept;
    std::byte* take_unused(size_class& sizes);

    // stack_arenas.cpp
    void map_arena(size_class& sizes);
    void* map(std::size_t& stacks, std::size_t slot_bytes);
    void install_guards(size_class& sizes);
    std::size_t install_many(std::byte* first, std::size_t count, std::size_t slot_bytes) noexcept;
    void install_one(arena& target, std::byte* guard);
    void forget_guards_ahead(size_class& sizes) noexcept;

    // stack_trim.cpp
    void trim_oldest(size_class& sizes, std::size_t count) noexcept;
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
