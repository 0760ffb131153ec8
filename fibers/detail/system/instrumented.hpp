// Which sanitizer instruments this source, and how a function is left out of that.
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

// Before the definition of a function. GCC does not inline an instrumented one into it; clang's
// no_sanitize would leave TSan's notes of entry and exit.
#if CREEL_UNDER_ASAN + CREEL_UNDER_TSAN == 0
#define CREEL_NOT_INSTRUMENTED
#elif defined(__clang__)
#define CREEL_NOT_INSTRUMENTED __attribute__((disable_sanitizer_instrumentation))
#else
#define CREEL_NOT_INSTRUMENTED __attribute__((no_sanitize("address", "thread", "undefined")))
#endif
