// A table of fixed size, without a lock. The states of an entry:
//
//     free --1--> claimed --2--> noted
//      ^  ^          |             |
//      |  +----3-----+             |
//      +-------------4-------------+
//
//   1  claim_entry()         a thread is about to walk up the stack of a throw
//   2  note_throw()          from here on throw_of() finds the frames
//   3  note_throw()          the stack has no room for the walk, or another thread throws the same
//                            exception at the same time
//   4  forget_throw()        the exception is destroyed; its address may be used again
//
// In a child forked while another thread was between 1 and 2, that entry stays claimed. That costs
// one entry.
#include <creel/fibers/detail/report/known_throws.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/report/exception_object.hpp>
#include <creel/fibers/detail/report/throw_walk.hpp>
#include <creel/fibers/error_origin.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <span>

namespace creel::detail {

namespace {

// Belongs to the thread that has claimed it, until `count` is set. All zero at first, so it takes
// no place in the program's file.
struct known_throw {
    std::atomic<std::size_t> count;  // of the frames; 0 unless noted
    exception_destructor destructor; // of the exception before ours; null if trivial
    alignas(code_address) std::array<std::byte, most_frames_of_throw * sizeof(code_address)> bytes;

    [[nodiscard]] std::span<code_address> frames() noexcept {
        return {reinterpret_cast<code_address*>(bytes.data()), most_frames_of_throw};
    }
};

constinit std::array<known_throw, most_known_throws> throws{};
constinit std::array<std::atomic<const void*>, most_known_throws> objects{}; // null: free
constinit std::atomic<std::size_t> entries_used{0}; // the entries behind were always free

constexpr std::size_t no_entry = most_known_throws;

// An entry other than `except`.
std::size_t find_entry(const void* object, std::size_t except = no_entry) noexcept {
    const std::size_t used = entries_used.load();
    for (std::size_t i = 0; i < used; ++i)
        if (objects[i].load() == object && i != except)
            return i;
    return no_entry;
}

std::size_t claim_entry(const void* object) noexcept {
    for (std::size_t i = 0; i < most_known_throws; ++i) {
        const void* owner = objects[i].load(std::memory_order_relaxed); // the exchange decides
        if (owner != nullptr || !objects[i].compare_exchange_strong(owner, object))
            continue;
        std::size_t used = entries_used.load();
        while (used <= i && !entries_used.compare_exchange_weak(used, i + 1)) {
        }
        return i;
    }
    return no_entry;
}

// The last reference to the exception has ended. Threads: any.
void forget_throw(void* object) {
    const std::size_t i = find_entry(object);
    const exception_destructor destructor = throws[i].destructor;
    throws[i].count.store(0, std::memory_order_relaxed); // no other thread has a reference
    objects[i].store(nullptr);
    if (destructor != nullptr)
        destructor(object);
}

// Of the caller's frames those from that return address on.
std::size_t walk_from(const void* return_address, std::span<code_address> out) noexcept {
    const auto end = out.begin() + static_cast<std::ptrdiff_t>(walk_throw(out));
    const auto first = std::find(
        out.begin(), end, code_address{reinterpret_cast<std::uintptr_t>(return_address), true});
    return static_cast<std::size_t>(std::copy(first, end, out.begin()) - out.begin());
}

} // namespace

// Two threads may throw one exception for the first time at the same moment. Each claims an entry
// first and then looks for another, so at least one of them sees the other, and gives up. (If both
// do, the place stays unknown.) All of this is sequentially consistent.
void note_throw(void* object, const std::type_info& type, const void* return_address) noexcept {
    if (type == typeid(cancelled) || type == typeid(partial_cancelled) ||
        find_entry(object) != no_entry)
        return;
    const std::size_t mine = claim_entry(object);
    if (mine == no_entry)
        return;
    known_throw& entry = throws[mine];
    const std::size_t count =
        find_entry(object, mine) == no_entry ? walk_from(return_address, entry.frames()) : 0;
    if (count == 0) {
        objects[mine].store(nullptr);
        return;
    }
    entry.destructor = exchange_destructor(object, &forget_throw);
    entry.count.store(count, std::memory_order_release); // pairs with throw_of()
}

std::vector<code_address> throw_of(const std::exception_ptr& error) {
    const void* const object = object_of(error);
    const std::size_t i = object != nullptr ? find_entry(object) : no_entry;
    if (i == no_entry)
        return {};
    const std::size_t count = throws[i].count.load(std::memory_order_acquire);
    const auto frames = throws[i].frames().first(count);
    return {frames.begin(), frames.end()};
}

} // namespace creel::detail
