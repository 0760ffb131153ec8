#include "pin.hpp"

#include "system_call.hpp"

#include <cerrno>

namespace creel::bench {
namespace {

cpu_set_t allowed_cores() {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof cores, &cores) != 0)
        fail(errno, "sched_getaffinity");
    return cores;
}

} // namespace

int pin_to_allowed_core(unsigned index) {
    const cpu_set_t allowed = allowed_cores();
    int chosen = -1;
    for (int core = 0; core < CPU_SETSIZE; ++core)
        if (CPU_ISSET(static_cast<unsigned>(core), &allowed)) {
            chosen = core;
            if (index-- == 0)
                break;
        }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(chosen), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0)
        fail(errno, "sched_setaffinity");
    return chosen;
}

pinned::pinned(unsigned index) : before_(allowed_cores()) {
    pin_to_allowed_core(index);
}

pinned::~pinned() {
    sched_setaffinity(0, sizeof before_, &before_);
}

} // namespace creel::bench
