// Catch2's handlers would run on the stack of an overflowing fiber and hide the runtime's own
// (tests/CMakeLists.txt sets CATCH_CONFIG_NO_POSIX_SIGNALS for every file).
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
