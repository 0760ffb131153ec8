#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstddef>
#include <string_view>

namespace creel {

// Of one fiber.
inline constexpr std::size_t most_stack_bytes = std::size_t{1} << 30;

struct spawn_options {
    std::string_view name{};     // for this_fiber::name(), the dump and error messages; copied
    std::size_t stack_bytes = 0; // 0: the scheduler's default; rounded up to a power of two of at
                                 // least 16 KiB; above 1 GiB spawn throws
                                 // std::invalid_argument
};

} // namespace creel
