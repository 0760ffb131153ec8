#include <creel/fibers/detail/run/boost_copies.hpp>

#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <boost/fiber/context.hpp>

#include <cstdio>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <link.h>

namespace creel::detail {

namespace {

// boost::fibers::context::active(), which every wait of Boost.Fiber calls, as the Itanium C++ ABI
// mangles it.
constexpr const char* active_symbol = "_ZN5boost6fibers7context6activeEv";

struct loaded_objects {
    std::vector<std::string> names{};
    unsigned long long loads = 0; // in the process so far, unloaded ones included
};

// The loader's lock guards the name. TSan knows that of all its bytes but the last: its interceptor
// of dl_iterate_phdr() resets strlen(name) bytes (GCC 12). So that one is read unseen, and
// volatile, because the compiler would turn the loop into a call of strlen(), which TSan sees.
[[gnu::noinline]] CREEL_NOT_INSTRUMENTED std::size_t length_of(const volatile char* name) noexcept {
    std::size_t length = 0;
    while (name[length] != '\0')
        ++length;
    return length;
}

int note_object(dl_phdr_info* info, std::size_t, void* result) {
    auto& objects = *static_cast<loaded_objects*>(result);
    objects.loads = info->dlpi_adds;
    const std::size_t length = info->dlpi_name != nullptr ? length_of(info->dlpi_name) : 0;
    if (length != 0)
        objects.names.emplace_back(info->dlpi_name, length);
    return 0;
}

int note_loads(dl_phdr_info* info, std::size_t, void* loads) {
    *static_cast<unsigned long long*>(loads) = info->dlpi_adds;
    return 1; // the first object knows
}

std::string shared_object_of(const void* address) {
    Dl_info info{};
    return ::dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

// While a thread looks, it may hold the dynamic loader's lock, which glibc (2.36) leaves locked in
// a child that is forked meanwhile.
std::mutex looking;
const fork_guard looking_in_forks{looking};
unsigned long long loads_seen = 0; // guarded by looking
bool has_reported = false;         // likewise

// Empty, too, if the copy was reported before.
std::string new_copy() {
    const std::lock_guard lock{looking};
    unsigned long long loads = 0;
    ::dl_iterate_phdr(&note_loads, &loads);
    if (has_reported || std::exchange(loads_seen, loads) == loads)
        return {};
    std::string other = other_boost_fiber();
    has_reported = !other.empty();
    return other;
}

} // namespace

std::string other_boost_fiber() {
    // Ours may stand in for a library's: then what that library finds is our own, and all is well.
    const std::string ours =
        shared_object_of(reinterpret_cast<void*>(&boost::fibers::context::active));
    loaded_objects objects;
    ::dl_iterate_phdr(&note_object, &objects);
    const void* const seen_by_all = ::dlsym(RTLD_DEFAULT, active_symbol);
    for (const std::string& name : objects.names) {
        void* const object = ::dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
        if (object == nullptr)
            continue;
        const void* const found = ::dlsym(object, active_symbol);
        ::dlclose(object);
        if (found == nullptr)
            continue;
        // The symbols of the whole process come before those of the library itself.
        std::string owner = shared_object_of(seen_by_all != nullptr ? seen_by_all : found);
        if (owner != ours)
            return owner;
    }
    return {};
}

void report_other_boost_fiber() noexcept {
    try {
        const std::string other = new_copy();
        if (other.empty())
            return;
        std::fprintf(stderr,
                     "creel: %s is a second copy of Boost.Fiber beside creel's own: waits of its "
                     "fibers block this thread and everything on it. Build creel with "
                     "-DCREEL_BOOST=shared, so that there is one\n",
                     other.c_str());
    } catch (const std::exception&) {
        // Without memory there is no report; and the run will say so itself.
    }
}

} // namespace creel::detail
