#include <creel/fibers/error_origin.hpp>

#include <creel/fibers/detail/system/fork_guard.hpp>
#include <creel/fibers/detail/task/task_record.hpp>

#include <mutex>
#include <type_traits>
#include <typeinfo>
#include <unordered_map>
#include <utility>

#include <unwind.h>

namespace creel {

namespace {

// What lies in front of every exception object: __cxa_exception of the Itanium C++ ABI, 2.2.1.
// libstdc++ and libc++abi, where they keep more, keep it in front of this. An exception is rethrown
// as the object it is, so what we know of it can only be kept beside it, under its address; and an
// address is reused as soon as the exception has gone. So we note when it goes, by its destructor.
// Rejected: an entry that holds an exception_ptr would keep the exception, and all it owns, alive.
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

struct origin {
    task_info who;
    void (*destructor)(void*); // the exception's own; null if trivial
};

constinit std::mutex mutex;
const detail::fork_guard origins_in_forks{mutex};

struct origins {
    std::unordered_map<void*, origin> known; // by exception object; guarded by the mutex
};

// Never destroyed: an exception may die after the statics have.
origins& all() {
    static auto* const one = new origins;
    return *one;
}

// The last reference to the exception has gone; on whatever thread.
void forget_and_destroy(void* object) {
    void (*destructor)(void*) = nullptr;
    task_info who; // destroyed without the lock
    {
        origins& o = all();
        const std::lock_guard lock{mutex};
        const auto found = o.known.find(object);
        destructor = found->second.destructor;
        who = std::move(found->second.who);
        o.known.erase(found);
    }
    if (destructor != nullptr)
        destructor(object);
}

} // namespace

std::optional<task_info> error_origin(const std::exception_ptr& error) {
    origins& o = all();
    const std::lock_guard lock{mutex};
    const auto found = o.known.find(detail::object_of(error));
    if (found == o.known.end())
        return std::nullopt;
    return found->second.who;
}

namespace detail {

// Two threads may hold the same exception: the lock keeps their notes apart, and it cannot be
// destroyed meanwhile, for the caller has a reference to it.
void note_origin(const std::exception_ptr& error, const task_record& who) noexcept {
    void* const object = object_of(error);
    if (object == nullptr)
        return;
    try {
        origins& o = all();
        const std::lock_guard lock{mutex};
        auto* const header = static_cast<exception_header*>(object) - 1;
        const task_info info{who.id, std::string{who.name()}, who.spawned_at};
        if (o.known.try_emplace(object, origin{info, header->destructor}).second)
            header->destructor = forget_and_destroy;
    } catch (const std::bad_alloc&) { // who threw it stays unknown
    }
}

} // namespace detail
} // namespace creel
