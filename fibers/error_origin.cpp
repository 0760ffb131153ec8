// Origins and throws are kept beside an exception, for as long as it lives.
#include <creel/fibers/error_origin.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/detail/task/task_record.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <mutex>
#include <new>
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
// A rethrow throws the same object. So what is known can only be kept beside the object, under its
// address. An address is reused as soon as the exception is destroyed, so we replace the destructor
// in the header, and forget the object when it is called. Rejected: an entry that holds an
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

exception_header& header_of(void* object) noexcept {
    return static_cast<exception_header*>(object)[-1];
}

struct known_error {
    void (*destructor)(void*) = nullptr; // the exception's own; null if trivial
    std::optional<task_info> child{};
    std::vector<detail::code_address> thrown_at{};
};

constinit std::mutex mutex;
const fork_guard origins_in_forks{mutex};

// By exception object; guarded by the mutex, as the next; made with the first. Never destroyed: an
// exception may be destroyed after the statics.
constinit std::unordered_map<void*, known_error>* known_errors = nullptr;
constinit std::size_t known_throws = 0; // entries with frames

// The last reference to the exception is destroyed. Threads: any.
void forget_and_destroy(void* object) {
    known_error known; // destroyed without the lock
    {
        const std::lock_guard lock{mutex};
        const auto found = known_errors->find(object);
        known = std::move(found->second);
        known_errors->erase(found);
        if (!known.thrown_at.empty())
            --known_throws;
    }
    if (known.destructor != nullptr)
        known.destructor(object);
}

// With the mutex held. Null if nothing is known.
known_error* find(void* object) noexcept {
    if (known_errors == nullptr)
        return nullptr;
    const auto found = known_errors->find(object);
    return found != known_errors->end() ? &found->second : nullptr;
}

// With the mutex held. Two threads may hold the same exception: the lock keeps their notes apart.
// The exception cannot be destroyed meanwhile, because the caller has a reference to it, or is
// about to throw it. Throws: std::bad_alloc.
known_error& find_or_make(void* object) {
    if (known_errors == nullptr)
        known_errors = new std::unordered_map<void*, known_error>;
    const auto [entry, is_new] = known_errors->try_emplace(object);
    if (is_new)
        entry->second.destructor = std::exchange(header_of(object).destructor, &forget_and_destroy);
    return entry->second;
}

} // namespace

std::optional<task_info> error_origin(const std::exception_ptr& error) {
    const std::lock_guard lock{mutex};
    const known_error* const known = find(detail::object_of(error));
    return known != nullptr ? known->child : std::nullopt;
}

std::string error_backtrace(const std::exception_ptr& error) {
    return detail::text_of_backtrace(detail::throw_of(error));
}

namespace detail {

void note_origin(const std::exception_ptr& error, const task_record& child) noexcept {
    void* const object = object_of(error);
    if (object == nullptr)
        return;
    try {
        task_info info{child.id, std::string{child.name()}, child.spawned_at};
        const std::lock_guard lock{mutex};
        known_error& known = find_or_make(object);
        if (!known.child)
            known.child = std::move(info);
    } catch (const std::bad_alloc&) { // its origin stays unknown
    }
}

void note_throw(void* object, const std::type_info& type,
                std::span<const code_address> frames) noexcept {
    if (frames.empty() || type == typeid(cancelled) || type == typeid(partial_cancelled))
        return;
    try {
        const std::lock_guard lock{mutex};
        if (known_throws == most_known_throws)
            return;
        known_error& known = find_or_make(object);
        if (!known.thrown_at.empty())
            return;
        known.thrown_at.assign(frames.begin(), frames.end());
        ++known_throws;
    } catch (const std::bad_alloc&) { // the place stays unknown
    }
}

std::vector<code_address> throw_of(const std::exception_ptr& error) {
    const std::lock_guard lock{mutex};
    const known_error* const known = find(object_of(error));
    return known != nullptr ? known->thrown_at : std::vector<code_address>{};
}

} // namespace detail
} // namespace creel
