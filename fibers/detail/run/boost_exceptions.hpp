// True if Boost keeps the C++ exception state of each context, as it does since 1.88 with
// libstdc++: then a context has its own state again when it is resumed. Older versions leave that
// to us. It must not be done twice, because Boost saves the state of the thread after we have put
// the state of the next context there.
//
// CMake finds out by a program that it runs (CreelBoostExceptions.cmake). If CMake cannot run it,
// because it compiles for another machine or builds Boost along with creel, the version decides.
#pragma once

#include <boost/version.hpp>

#include <version> // of the standard library, and which

namespace creel::detail {

#if defined(CREEL_BOOST_KEEPS_EXCEPTIONS)
inline constexpr bool boost_keeps_exceptions = CREEL_BOOST_KEEPS_EXCEPTIONS != 0;
#elif defined(__GLIBCXX__)
inline constexpr bool boost_keeps_exceptions = BOOST_VERSION >= 108800;
#else
inline constexpr bool boost_keeps_exceptions = false;
#endif

} // namespace creel::detail
