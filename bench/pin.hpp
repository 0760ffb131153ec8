#pragma once

// Keeps a thread on one core while it is measured.

#include <sched.h>

namespace creel::bench {

// Moves the calling thread to the `index`-th core it is allowed to use (the last one if there are
// fewer) and returns that core's number. Throws: std::system_error.
int pin_to_allowed_core(unsigned index);

// The same until the end of the scope; threads started meanwhile inherit it.
class pinned {
public:
    explicit pinned(unsigned index);
    pinned(const pinned&) = delete;
    pinned& operator=(const pinned&) = delete;
    ~pinned();

private:
    cpu_set_t before_;
};

} // namespace creel::bench
