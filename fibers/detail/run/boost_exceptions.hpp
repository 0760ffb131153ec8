// Whether Boost keeps the C++ exception state of each context, as it does since 1.88 with
// libstdc++: then a context has its own again when it is resumed. Older ones leave it to us, and it
// must not be done twice: Boost saves the state of the thread after we have put the next context's
// there.
//
// CMake finds out by a program that it runs (CreelBoostExceptions.cmake). Where it cannot, when it
// compiles for another machine or Boost is built along with creel, the version tells.
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
