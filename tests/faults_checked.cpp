// The template's function with all checks of UBSan, for faults.cpp, where some are off: as
// instantiations.cpp beside the tests.
#include "support/planted.hpp"

template int creel::test::read_at<int>(const void*);
