#pragma once

// Keeps a thread on one core while it is measured.

#include <sched.h>

namespace creel::bench {

// Moves the calling thread to the `index`-th core that it may use, or the last one if there are
// fewer. Returns the number of that core. Throws: std::system_error.
int pin_to_allowed_core(unsigned index);

// Does the same until the end of the scope. Threads that start during it inherit the core.
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
