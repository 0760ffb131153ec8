// Makes io_uring's system calls fail in this process, as a container's seccomp profile does
// (Docker's answers EPERM; an old kernel, or gVisor, ENOSYS).
//
// A filter cannot be removed: install it in a child (support/child_process.hpp). It also sets
// no_new_privs, which seccomp(2) demands of a process that is not privileged.
#pragma once

namespace creel::test {

// The errno each call fails with; 0 lets it through.
struct refused_calls {
    int io_uring_setup = 0;
    int io_uring_enter = 0;
    int io_uring_register = 0;
};

// Threads: any; it holds for all threads of the process. Throws: std::invalid_argument for what is
// no errno, std::system_error if the kernel takes no filter.
void refuse(const refused_calls& calls);

} // namespace creel::test
