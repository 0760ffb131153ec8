// Catch2, for the tests. GCC uses their support/precompiled.hpp instead, which has more. A header
// that clang precompiles must not contain the path of the clone.
#pragma once

#include <catch2/catch.hpp>
