#include <creel/fibers/detail/system/own_memory.hpp>

#include <cerrno>

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace creel::detail {

// The system call itself: TSan takes libc's function for a read by this thread.
bool copy_memory(const void* from, std::span<std::byte> to) noexcept {
    const int kept = errno;
    const iovec local{to.data(), to.size()};
    const iovec remote{const_cast<void*>(from), to.size()};
    const long copied = ::syscall(SYS_process_vm_readv, ::getpid(), &local, 1UL, &remote, 1UL, 0UL);
    errno = kept;
    return copied == static_cast<long>(to.size());
}

} // namespace creel::detail
