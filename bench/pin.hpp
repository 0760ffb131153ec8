#pragma once

// Keeps a thread on one core while it is measured.

#include <sched.h>

namespace creel::bench {

// The number of the `index`-th core that the calling thread may use, or of the last one if there
// are fewer. Throws: std::system_error.
int allowed_core(unsigned index);

// Moves the calling thread to this core. False, with errno, if it cannot. It is async-signal-safe.
bool pin_to(int core) noexcept;

// Moves the calling thread to allowed_core(index), and returns that. Throws: std::system_error.
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
