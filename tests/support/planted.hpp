// A fault in a template of a header, for faults.cpp: there it is compiled as the tests are, and
// must be found as it would be in a template of the library.
#pragma once

namespace creel::test {

template <typename T>
T one_more(volatile T& value) {
    return value + 1;
}

} // namespace creel::test
