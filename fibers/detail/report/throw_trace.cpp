#include <creel/fibers/detail/report/throw_trace.hpp>

#include <creel/fibers/detail/blocking/running_call.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <typeinfo>

namespace creel::detail {

#if defined(__GLIBCXX__)

namespace {

[[nodiscard]] bool throws_are_traced() noexcept {
    return this_scheduler != nullptr ? this_scheduler->debug()
                                     : this_debugged_call().record != nullptr;
}

} // namespace

// Not in the unnamed namespace: the name of its table of functions is used below.
struct probing_type final : std::type_info {
    probing_type() = delete;

    // Called in the first phase, for the frame that has the probe. `object` is what was thrown; of
    // a pointer that was thrown it is what that points to. Null for an exception of another
    // language, and while a thread is cancelled (pthread_cancel).
    bool __do_catch(const std::type_info* thrown, void** object, unsigned) const override;
};

bool probing_type::__do_catch(const std::type_info* thrown, void** object, unsigned) const {
    if (*object == nullptr || thrown->__is_pointer_p() || !throws_are_traced())
        return false;
    note_throw(*object, *thrown, __builtin_return_address(0));
    return false;
}

// A std::type_info has no constexpr constructor, and an exception may be thrown before main. So
// this is the object as the compiler would write it: Itanium C++ ABI, 2.9.5. The functions begin
// behind two words of the table.
extern const void* const functions_of_probing_type[3] asm("_ZTVN5creel6detail12probing_typeE");
struct type_as_written {
    const void* const* functions;
    const char* name;
};
extern const type_as_written type_of_probe asm("_ZTIN5creel6detail11throw_probeE");
[[gnu::used]] constinit const type_as_written type_of_probe{functions_of_probing_type + 2,
                                                            "N5creel6detail11throw_probeE"};

#else

// Another standard library compares the types itself.
throw_probe::~throw_probe() = default;

#endif

} // namespace creel::detail
