// Which sanitizer instruments this source, and how to leave a function uninstrumented.
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

// Put it before the definition of a function. GCC does not inline an instrumented function into
// such a function. With clang's no_sanitize the function would still tell TSan of its entry and
// exit.
#if CREEL_UNDER_ASAN + CREEL_UNDER_TSAN == 0
#define CREEL_NOT_INSTRUMENTED
#elif defined(__clang__)
#define CREEL_NOT_INSTRUMENTED __attribute__((disable_sanitizer_instrumentation))
#else
#define CREEL_NOT_INSTRUMENTED __attribute__((no_sanitize("address", "thread", "undefined")))
#endif
