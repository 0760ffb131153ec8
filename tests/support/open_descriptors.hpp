// The open descriptors of this process, from /proc/self/fd: for tests that none is left.
#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <vector>

namespace creel::test {

struct open_descriptor {
    int number = -1;
    std::string target; // its name in /proc: a path, "socket:[123]", "anon_inode:[io_uring]"

    friend auto operator<=>(const open_descriptor&, const open_descriptor&) = default;
};

// They are in ascending order, without the descriptor that reads the list. The slots of a ring's
// file table (direct descriptors) are not in the table of the process and do not show. Threads:
// any. Throws: std::system_error without /proc.
[[nodiscard]] std::vector<open_descriptor> open_descriptors();
[[nodiscard]] std::size_t open_descriptor_count();

} // namespace creel::test
