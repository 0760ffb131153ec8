// The sanitizer with which this test program is built. Some tests scale a count or leave out a case
// because of it, and say why.
#pragma once

#if defined(__has_feature)
#define CREEL_TEST_HAS_FEATURE(feature) __has_feature(feature)
#else
#define CREEL_TEST_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || CREEL_TEST_HAS_FEATURE(address_sanitizer)
#define CREEL_TEST_ASAN
#endif
#if defined(__SANITIZE_THREAD__) || CREEL_TEST_HAS_FEATURE(thread_sanitizer)
#define CREEL_TEST_TSAN
#endif

namespace creel::test {

#if defined(CREEL_TEST_ASAN)
inline constexpr bool under_asan = true;
#else
inline constexpr bool under_asan = false;
#endif

#if defined(CREEL_TEST_TSAN)
inline constexpr bool under_tsan = true;
#else
inline constexpr bool under_tsan = false;
#endif

} // namespace creel::test
