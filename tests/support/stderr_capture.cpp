#include "stderr_capture.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace creel::test {

stderr_capture::stderr_capture()
    : file_(::memfd_create("stderr", MFD_CLOEXEC)),
      before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
    if (file_ < 0 || before_ < 0 || ::dup2(file_, STDERR_FILENO) < 0)
        throw std::system_error(errno, std::generic_category(), "stderr to a file in memory");
}

stderr_capture::~stderr_capture() {
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
    const std::string all = text();
    std::fwrite(all.data(), 1, all.size(), stderr); // for the log of the test
    ::close(file_);
}

std::string stderr_capture::text() const {
    std::string all;
    std::array<char, 4096> part{};
    ssize_t n = 0;
    while ((n = ::pread(file_, part.data(), part.size(), static_cast<off_t>(all.size()))) > 0)
        all.append(part.data(), static_cast<std::size_t>(n));
    return all;
}

} // namespace creel::test
