// Which frames of a backtrace a dump shows.
#pragma once

#include <creel/fibers/detail/unwind/symbols.hpp>
#include <creel/fibers/detail/unwind/unwind.hpp>

#include <vector>

namespace creel::detail {

struct shown_frame {
    code_address address{};
    code_place place{};
};

// The program's own functions, and the functions of creel and of Boost.Fiber that they have called;
// everything if `all`, or if the program's functions are not known. The innermost first.
// Throws: std::bad_alloc.
[[nodiscard]] std::vector<shown_frame> shown_frames(const std::vector<code_address>& frames,
                                                    code_names& names, bool all);

} // namespace creel::detail
