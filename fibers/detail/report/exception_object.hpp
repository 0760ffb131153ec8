// The header that the C++ runtime keeps in front of each exception object. creel replaces the
// destructor in it, to hear of the end of an exception that it knows something of.
#pragma once

#include <exception>
#include <type_traits>
#include <typeinfo>

#include <unwind.h>

namespace creel::detail {

using exception_destructor = void (*)(void*);

// __cxa_exception of the Itanium C++ ABI, 2.2.1. Where libstdc++ and libc++abi keep more, they keep
// it in front of this header.
struct exception_header {
    std::type_info* type;
    exception_destructor destructor;
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

// The runtime calls `next` when the last reference to the exception ends; `next` must call what
// this returns, unless that is null. Several may do so with one exception, in any order: each calls
// the one before it. Threads: any that has a reference to the exception, or throws it.
[[nodiscard]] inline exception_destructor exchange_destructor(void* object,
                                                              exception_destructor next) noexcept {
    exception_header& header = static_cast<exception_header*>(object)[-1];
    return __atomic_exchange_n(&header.destructor, next, __ATOMIC_SEQ_CST);
}

} // namespace creel::detail
