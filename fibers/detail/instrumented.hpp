// Which sanitizer instruments this source. (switch.cpp is never instrumented, so the build tells
// it; see CMakeLists.txt.)
#pragma once

#if defined(__has_feature)
#define CREEL_HAS_FEATURE(feature) __has_feature(feature)
#else
#define CREEL_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || CREEL_HAS_FEATURE(address_sanitizer)
#define CREEL_UNDER_ASAN 1
#else
#define CREEL_UNDER_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || CREEL_HAS_FEATURE(thread_sanitizer)
#define CREEL_UNDER_TSAN 1
#else
#define CREEL_UNDER_TSAN 0
#endif

#undef CREEL_HAS_FEATURE
