// Which sanitizer this test program is built with: some counts are scaled, and say so.
#pragma once

namespace creel::test {

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CREEL_TEST_UNDER_TSAN
#endif
#if __has_feature(address_sanitizer)
#define CREEL_TEST_UNDER_ASAN
#endif
#endif

#if defined(__SANITIZE_THREAD__) || defined(CREEL_TEST_UNDER_TSAN)
inline constexpr bool under_tsan = true;
#else
inline constexpr bool under_tsan = false;
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(CREEL_TEST_UNDER_ASAN)
inline constexpr bool under_asan = true;
#else
inline constexpr bool under_asan = false;
#endif

} // namespace creel::test
