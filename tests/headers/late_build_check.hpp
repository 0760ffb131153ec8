// Planted: a type comes before the check of the build.
#pragma once

struct planted_before_the_check {};

#include <creel/fibers/build_check.hpp>
