// Origins are kept beside an exception, for as long as it lives. detail/report/known_throws.cpp
// keeps where it was thrown.
#include <creel/fibers/error_origin.hpp>

#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/report/exception_object.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/detail/task/task_record.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>

namespace creel {

namespace {

// A rethrow throws the same object. So what is known can only be kept beside the object, under its
// address. An address is reused as soon as the exception is destroyed, so we replace the destructor
// in the object's header, and forget the object when it is called. Rejected: an entry that holds an
// exception_ptr would keep the exception alive, and all that it owns.
struct known_error {
    detail::exception_destructor destructor = nullptr; // the one before ours; null if trivial
    task_info child{};
};

constinit std::mutex mutex;
const fork_guard origins_in_forks{mutex};

// By exception object; guarded by the mutex; made with the first. Never destroyed: an exception may
// be destroyed after the statics.
constinit std::unordered_map<void*, known_error>* known_errors = nullptr;

// The last reference to the exception is destroyed. Threads: any.
void forget_origin(void* object) {
    std::unordered_map<void*, known_error>::node_type known; // destroyed without the lock
    {
        const std::lock_guard lock{mutex};
        known = known_errors->extract(object);
    }
    if (const detail::exception_destructor destructor = known.mapped().destructor)
        destructor(object);
}

} // namespace

std::optional<task_info> error_origin(const std::exception_ptr& error) {
    const std::lock_guard lock{mutex};
    if (known_errors == nullptr)
        return std::nullopt;
    const auto found = known_errors->find(detail::object_of(error));
    return found != known_errors->end() ? std::optional{found->second.child} : std::nullopt;
}

std::string error_backtrace(const std::exception_ptr& error) {
    return detail::text_of_backtrace(detail::throw_of(error));
}

namespace detail {

// Two threads may hold the same exception: the lock keeps their notes apart. The exception cannot
// be destroyed meanwhile, because the caller has a reference to it.
void note_origin(const std::exception_ptr& error, const task_record& child) noexcept {
    void* const object = object_of(error);
    if (object == nullptr)
        return;
    try {
        task_info info{child.id, std::string{child.name()}, child.spawned_at};
        const std::lock_guard lock{mutex};
        if (known_errors == nullptr)
            known_errors = new std::unordered_map<void*, known_error>;
        const auto [entry, is_new] = known_errors->try_emplace(object);
        if (!is_new)
            return;
        entry->second.child = std::move(info);
        entry->second.destructor = exchange_destructor(object, &forget_origin);
    } catch (const std::bad_alloc&) { // its origin stays unknown
    }
}

} // namespace detail
} // namespace creel
