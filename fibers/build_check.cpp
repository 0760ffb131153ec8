#include <creel/fibers/build_check.hpp>

namespace creel::build_check {

// The program never reads them: only their names matter.
#if CREEL_UNDER_ASAN
const char
    this_source_has_fsanitize_address_and_creel_has_not__build_both_with_it__see_docs_building_md{};
#elif CREEL_UNDER_TSAN
const char
    this_source_has_fsanitize_thread_and_creel_has_not__build_both_with_it__see_docs_building_md{};
#else
const char
    creel_has_a_sanitizer_and_this_source_has_not__build_both_with_it__see_docs_building_md{};
#endif

#if defined(_GLIBCXX_DEBUG)
const char
    this_source_has_GLIBCXX_DEBUG_and_creel_has_not__use_GLIBCXX_ASSERTIONS__see_docs_building_md{};
#else
const char
    creel_has_GLIBCXX_DEBUG_and_this_source_has_not__build_both_with_it__see_docs_building_md{};
#endif

} // namespace creel::build_check
