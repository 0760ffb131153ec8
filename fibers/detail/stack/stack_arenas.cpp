// The arenas of a stack_pool, and the guards of the stacks in them.
#include <creel/fibers/detail/stack/stack_pool.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace creel::detail {

namespace {

constexpr int madv_guard_install = 102; // Linux 6.13; Debian 12's headers lack it
constexpr int pidfd_self = -10000;      // Linux 6.15: this process, without a descriptor
constexpr std::size_t most_guards_at_once = 32;
constexpr std::size_t first_arena_stacks = 16;
constexpr std::size_t most_arena_bytes = std::size_t{1} << 28; // without guards

} // namespace

void stack_pool::map_arena(size_class& sizes) {
    const std::size_t slot_bytes = guard_bytes_ + sizes.stack_bytes;
    const std::size_t most =
        std::clamp(most_arena_bytes / sizes.stack_bytes, std::size_t{1}, most_arena_stacks);
    std::size_t stacks = std::min(std::max(sizes.next_arena_stacks, first_arena_stacks), most);
    auto* const base = static_cast<std::byte*>(map(stacks, slot_bytes));
    const std::size_t bytes = stacks * slot_bytes;
    try {
        const std::size_t slots = sizes.slots + stacks;
        if (sizes.idle.capacity() < slots)
            sizes.idle.reserve(std::max(slots, 2 * sizes.idle.capacity()));
        const auto above = std::find_if(sizes.arenas.begin(), sizes.arenas.end(),
                                        [base](const arena& each) { return each.base > base; });
        sizes.arenas.insert(above, arena{base, bytes, stacks});
    } catch (const std::bad_alloc&) {
        ::munmap(base, bytes);
        throw;
    }
    // A huge page under a stack would cost 2 MiB where a fiber needs 4 KiB. A kernel without huge
    // pages refuses, which does no harm.
    ::madvise(base, bytes, MADV_NOHUGEPAGE);
    sizes.unused = sizes.guarded = base;
    sizes.unused_end = base + bytes;
    sizes.slots += stacks;
    sizes.next_arena_stacks = 2 * stacks;
    mapped_bytes_ += bytes;
}

// Maps address space for `stacks` stacks. If there is no room, halves `stacks` until there is.
void* stack_pool::map(std::size_t& stacks, std::size_t slot_bytes) {
    for (bool has_trimmed = false;;) {
        void* const base = ::mmap(nullptr, stacks * slot_bytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (base != MAP_FAILED)
            return base;
        if (stacks > 1) {
            stacks /= 2;
        } else if (!has_trimmed) {
            trim(0); // idle stacks of another size may hold the missing address space
            has_trimmed = true;
        } else {
            throw std::bad_alloc{};
        }
    }
}

// Transition 1 of a stack: for the next unused stack, and for some behind it if the kernel installs
// many guards in one call.
void stack_pool::install_guards(size_class& sizes) {
    if (sizes.unused == sizes.unused_end)
        map_arena(sizes);
    const std::size_t slot_bytes = guard_bytes_ + sizes.stack_bytes;
    arena& target = sizes.arena_of(sizes.unused_end);
    std::size_t count = 0;
    if (guard_ == stack_guard::madvise && installs_many_) {
        const auto left = static_cast<std::size_t>(sizes.unused_end - sizes.unused) / slot_bytes;
        const std::size_t wanted =
            std::clamp(target.stacks / 4, std::size_t{1}, most_guards_at_once);
        count = install_many(sizes.unused, std::min(wanted, left), slot_bytes);
    }
    if (count == 0) {
        install_one(target, sizes.unused);
        count = 1;
    }
    target.live += count;
    sizes.guarded = sizes.unused + count * slot_bytes;
}

// Returns how many guards it has installed. If none, install_one() finds out why.
std::size_t stack_pool::install_many(std::byte* first, std::size_t count,
                                     std::size_t slot_bytes) noexcept {
    std::array<iovec, most_guards_at_once> guards;
    for (std::size_t index = 0; index != count; ++index)
        guards[index] = {first + index * slot_bytes, guard_bytes_};
    const long done =
        ::syscall(SYS_process_madvise, pidfd_self, guards.data(), count, madv_guard_install, 0);
    if (done < 0) {
        installs_many_ = errno == ENOMEM;
        return 0;
    }
    return static_cast<std::size_t>(done) / guard_bytes_;
}

void stack_pool::install_one(arena& target, std::byte* guard) {
    if (guard_ == stack_guard::madvise) {
        if (::madvise(guard, guard_bytes_, madv_guard_install) == 0)
            return;
        if (errno == ENOMEM)
            throw std::bad_alloc{};
        guard_ = stack_guard::mprotect; // EINVAL: an older kernel, or memory locked by mlockall
    }
    if (::mprotect(guard, guard_bytes_, PROT_NONE) != 0)
        throw std::bad_alloc{}; // ENOMEM: vm.max_map_count
    ++target.mprotect_guards;
}

// The stacks that were guarded ahead of use count as never used again, so that they do not keep
// their arena. To install their guards again later is harmless.
void stack_pool::forget_guards_ahead(size_class& sizes) noexcept {
    if (sizes.unused == sizes.guarded)
        return;
    const std::size_t slot_bytes = guard_bytes_ + sizes.stack_bytes;
    sizes.arena_of(sizes.unused_end).live -=
        static_cast<std::size_t>(sizes.guarded - sizes.unused) / slot_bytes;
    sizes.guarded = sizes.unused;
}

} // namespace creel::detail
