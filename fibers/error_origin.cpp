#include <creel/fibers/error_origin.hpp>

#include <creel/fibers/detail/task/task_record.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <mutex>
#include <type_traits>
#include <typeinfo>
#include <unordered_map>
#include <utility>

#include <unwind.h>

namespace creel {

namespace {

// The header in front of every exception object: __cxa_exception of the Itanium C++ ABI, 2.2.1.
// Where libstdc++ and libc++abi keep more, they keep it in front of this header.
//
// A rethrow throws the same object. So an origin can only be kept beside the object, under its
// address. An address is reused as soon as the exception is destroyed, so we replace the destructor
// in the header, and forget the origin when it is called. Rejected: an entry that holds an
// exception_ptr would keep the exception alive, and all that it owns.
struct exception_header {
    std::type_info* type;
    void (*destructor)(void*);
    void (*unexpected_handler)();
    void (*terminate_handler)();
    exception_header* next;
    int handler_count;
    int handler_switch_value;
    const unsigned char* action_record;
    const unsigned char* language_specific_data;
    void* catch_temporary;
    void* adjusted_pointer;
    _Unwind_Exception unwind_header;
};
static_assert(std::is_standard_layout_v<exception_header>);
static_assert(sizeof(std::exception_ptr) == sizeof(void*)); // see object_of()

struct origin {
    task_info child;
    void (*destructor)(void*); // the exception's own; null if trivial
};

constinit std::mutex mutex;
const fork_guard origins_in_forks{mutex};

// By exception object; guarded by the mutex; made with the first. Never destroyed: an exception may
// be destroyed after the statics.
constinit std::unordered_map<void*, origin>* known_origins = nullptr;

// The last reference to the exception is destroyed. Threads: any.
void forget_and_destroy(void* object) {
    void (*destructor)(void*) = nullptr;
    task_info child; // destroyed without the lock
    {
        const std::lock_guard lock{mutex};
        const auto found = known_origins->find(object);
        destructor = found->second.destructor;
        child = std::move(found->second.child);
        known_origins->erase(found);
    }
    if (destructor != nullptr)
        destructor(object);
}

} // namespace

std::optional<task_info> error_origin(const std::exception_ptr& error) {
    const std::lock_guard lock{mutex};
    if (known_origins == nullptr)
        return std::nullopt;
    const auto found = known_origins->find(detail::object_of(error));
    if (found == known_origins->end())
        return std::nullopt;
    return found->second.child;
}

namespace detail {

// Two threads may hold the same exception: the lock keeps their notes apart. The exception cannot
// be destroyed meanwhile, because the caller has a reference to it.
void note_origin(const std::exception_ptr& error, const task_record& child) noexcept {
    void* const object = object_of(error);
    if (object == nullptr)
        return;
    try {
        const std::lock_guard lock{mutex};
        if (known_origins == nullptr)
            known_origins = new std::unordered_map<void*, origin>;
        auto* const header = static_cast<exception_header*>(object) - 1;
        const task_info info{child.id, std::string{child.name()}, child.spawned_at};
        if (known_origins->try_emplace(object, origin{info, header->destructor}).second)
            header->destructor = forget_and_destroy;
    } catch (const std::bad_alloc&) { // its origin stays unknown
    }
}

} // namespace detail
} // namespace creel
