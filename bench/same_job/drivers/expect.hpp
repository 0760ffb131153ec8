#pragma once

// How a driver finds fault with a program: by a std::runtime_error that says what is wrong.

#include "../wire.hpp"

#include <creel/fibers/cancel_scope.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace creel::bench::same_job {

using namespace ::same_job; // wire.hpp: the limits and the texts of the jobs

inline constexpr auto patience = 20s;         // for each part of a driver
inline constexpr auto at_once = patience / 2; // what is not done at once is never done
inline constexpr std::size_t flood = std::size_t{64} << 20; // more than the kernel buffers
inline constexpr double most_growth = 16 << 20; // bytes; of a program's memory, which is bounded

inline void require(bool is_so, std::string_view otherwise) {
    if (!is_so)
        throw std::runtime_error(std::string{otherwise});
}

inline std::string milliseconds(duration time) {
    return std::to_string(std::chrono::round<std::chrono::milliseconds>(time).count()) + " ms";
}

// Runs a part of a driver and returns its result. Its errors get its name.
template <class Part>
std::invoke_result_t<Part&> within(duration limit, const std::string& name, Part&& part) {
    try {
        return fail_after(limit, part);
    } catch (const timed_out&) {
        throw std::runtime_error(name + ": not done after " + milliseconds(limit));
    } catch (const std::exception& error) {
        throw std::runtime_error(name + ": " + error.what());
    }
}

} // namespace creel::bench::same_job
