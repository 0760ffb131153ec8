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

int allowed_core(unsigned index) {
    const cpu_set_t allowed = allowed_cores();
    int chosen = -1;
    for (int core = 0; core < CPU_SETSIZE; ++core)
        if (CPU_ISSET(static_cast<unsigned>(core), &allowed)) {
            chosen = core;
            if (index-- == 0)
                break;
        }
    return chosen;
}

bool pin_to(int core) noexcept {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(core), &one);
    return sched_setaffinity(0, sizeof one, &one) == 0;
}

int pin_to_allowed_core(unsigned index) {
    const int core = allowed_core(index);
    if (!pin_to(core))
        fail(errno, "sched_setaffinity");
    return core;
}

pinned::pinned(unsigned index) : before_(allowed_cores()) {
    pin_to_allowed_core(index);
}

pinned::~pinned() {
    sched_setaffinity(0, sizeof before_, &before_);
}

} // namespace creel::bench
