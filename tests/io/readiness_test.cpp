#include <creel/io/readiness.hpp>

#include "clean_run.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <system_error>

namespace io = creel::io;
using namespace creel::test;

TEST_CASE("a file and a directory are always ready") {
    clean_run([] {
        for (const char* path : {"/proc/self/exe", "/", "/dev/null"}) {
            const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
            REQUIRE(fd >= 0);
            io::wait_readable(fd);
            io::wait_writable(fd);
            ::close(fd);
        }
    });
}

TEST_CASE("a wait for a descriptor that is not open names it and fails") {
    clean_run([] {
        const auto error = error_of([] { io::wait_readable(1'000'000); });
        CHECK(error.code() == std::errc::bad_file_descriptor);
        CHECK_THAT(error.what(), Catch::StartsWith("wait_readable on descriptor 1000000: "));
    });
}
