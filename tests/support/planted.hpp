// Faults in templates of a header, for faults.cpp. They are compiled as the tests are, and the
// sanitizers must find them as in a template of the library.
#pragma once

namespace creel::test {

template <typename T>
T one_more(volatile T& value) {
    return value + 1;
}

// The reference in it may be misaligned.
template <typename T>
T read_at(const void* address) {
    const T& value = *static_cast<const T*>(address);
    return value;
}

} // namespace creel::test
