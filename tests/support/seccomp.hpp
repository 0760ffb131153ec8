// Makes io_uring's system calls fail in this process, as a container's seccomp profile does
// (Docker's gives EPERM; an old kernel, or gVisor, gives ENOSYS).
//
// A filter cannot be removed: install it in a child (support/child_process.hpp). refuse() also sets
// no_new_privs, which seccomp(2) requires of a process without privilege.
#pragma once

namespace creel::test {

// The errno with which each call fails; 0 lets the call pass.
struct refused_calls {
    int io_uring_setup = 0;
    int io_uring_enter = 0;
    int io_uring_register = 0;
};

// The filter is in force for all threads of the process.
// Threads: any. Throws: std::invalid_argument for a number that is no errno, std::system_error if
// the kernel takes no filter.
void refuse(const refused_calls& calls);

} // namespace creel::test
