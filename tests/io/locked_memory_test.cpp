// tests/ordinary_user.sh runs this under two limits of locked memory.
#include "support/check.hpp"

#include <cerrno>
#include <string>
#include <system_error>

#include <liburing.h>

TEST_CASE("a ring of 4,096 entries, by liburing alone", "[.planted]") {
    io_uring ring{};
    const int result = io_uring_queue_init(4096, &ring, 0); // 256 KiB of entries
    const std::string error = std::generic_category().message(-result);
    INFO("io_uring_setup: " << error);
    REQUIRE(result == 0);
    io_uring_queue_exit(&ring);
}
