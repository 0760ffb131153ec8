// Checks the compiler and the flags of each source that uses creel. Every public header includes
// this one before any other. A compiler that cannot compile creel says why in its first line. Some
// flags change the layout of the program's memory: the linker refuses a source for which such a
// flag differs from creel's. docs/building.md has the remedies.
#pragma once

#if !defined(__linux__)
#error "creel needs Linux"
#include <what the #error above says>
#elif defined(__clang__) && __clang_major__ < 16
#error "creel needs clang 16 or later, or GCC 12 or later"
#include <what the #error above says>
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 12
#error "creel needs GCC 12 or later, or clang 16 or later"
#include <what the #error above says>
#elif __cplusplus < 202002L
#error "creel needs C++20: compile with -std=c++20"
#include <what the #error above says>
#elif !defined(__cpp_exceptions)
#error "creel needs exceptions: compile without -fno-exceptions"
#include <what the #error above says>
#endif

#include <creel/fibers/detail/system/instrumented.hpp>

// Each source refers to the names that describe its own flags. build_check.cpp is compiled like all
// of creel, and defines the names that describe creel's flags. So the name that the linker does not
// find is the message.
namespace creel::build_check {

#if CREEL_UNDER_ASAN
extern const char
    this_source_has_fsanitize_address_and_creel_has_not__build_both_with_it__see_docs_building_md;
#elif CREEL_UNDER_TSAN
extern const char
    this_source_has_fsanitize_thread_and_creel_has_not__build_both_with_it__see_docs_building_md;
#else
extern const char
    creel_has_a_sanitizer_and_this_source_has_not__build_both_with_it__see_docs_building_md;
#endif

#if defined(_GLIBCXX_DEBUG)
extern const char
    this_source_has_GLIBCXX_DEBUG_and_creel_has_not__use_GLIBCXX_ASSERTIONS__see_docs_building_md;
#else
extern const char
    creel_has_GLIBCXX_DEBUG_and_this_source_has_not__build_both_with_it__see_docs_building_md;
#endif

} // namespace creel::build_check

// One source may differ: start_context.cpp, which makes contexts, is never instrumented.
#if !defined(CREEL_NEVER_INSTRUMENTED)
namespace creel::detail {

// Static, so that each source has its own array and the linker cannot merge two of them. `used`
// makes the compiler keep the array; `retain` makes a linker that collects garbage keep it.
[[gnu::used, gnu::retain]] static const char* const build_marks[] = {
#if CREEL_UNDER_ASAN
    &build_check::
        this_source_has_fsanitize_address_and_creel_has_not__build_both_with_it__see_docs_building_md,
#elif CREEL_UNDER_TSAN
    &build_check::
        this_source_has_fsanitize_thread_and_creel_has_not__build_both_with_it__see_docs_building_md,
#else
    &build_check::
        creel_has_a_sanitizer_and_this_source_has_not__build_both_with_it__see_docs_building_md,
#endif
#if defined(_GLIBCXX_DEBUG)
    &build_check::
        this_source_has_GLIBCXX_DEBUG_and_creel_has_not__use_GLIBCXX_ASSERTIONS__see_docs_building_md,
#else
    &build_check::
        creel_has_GLIBCXX_DEBUG_and_this_source_has_not__build_both_with_it__see_docs_building_md,
#endif
};

} // namespace creel::detail
#endif
