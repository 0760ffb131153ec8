// Catch2, for the tests. Their own support/precompiled.hpp has it and more, which only GCC uses:
// what clang precompiles must not name the clone.
#pragma once

#include <catch2/catch.hpp>
