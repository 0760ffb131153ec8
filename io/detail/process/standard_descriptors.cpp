#include <creel/io/detail/process/standard_descriptors.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace creel::io::detail {

// Child processes inherit the new descriptors, as they inherit the standard ones.
void fill_standard_descriptors() {
    for (int number = STDIN_FILENO; number <= STDERR_FILENO; ++number) {
        if (::fcntl(number, F_GETFD) >= 0 || errno != EBADF)
            continue;
        const int opened = ::open("/dev/null", O_RDWR);
        if (opened < 0)
            throw_error(errno, "io::run: descriptor " + std::to_string(number) +
                                   " is closed, and /dev/null cannot be opened in its place");
        // open() gives the lowest free number: a larger one if another thread has just taken it.
        if (opened > STDERR_FILENO)
            ::close(opened);
    }
}

} // namespace creel::io::detail
