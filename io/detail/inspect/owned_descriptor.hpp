// A descriptor that is closed at the end of a scope or of an object.
#pragma once

#include <unistd.h>

namespace creel::io::detail {

struct owned_descriptor {
    explicit owned_descriptor(int descriptor) noexcept : fd(descriptor) {}
    ~owned_descriptor() {
        if (fd >= 0)
            ::close(fd);
    }
    owned_descriptor(const owned_descriptor&) = delete;
    owned_descriptor& operator=(const owned_descriptor&) = delete;

    const int fd; // negative: none
};

} // namespace creel::io::detail
