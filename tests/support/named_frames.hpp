// Looks for functions in a backtrace.
#pragma once

#include <creel/fibers/detail/unwind/symbols.hpp>

#include <span>
#include <string>
#include <vector>

namespace creel::test {

// Whether this build can tell files, lines and inlined functions.
[[nodiscard]] bool has_debug_information();

// The places of all frames, the innermost first.
[[nodiscard]] std::vector<detail::code_place>
places_of(std::span<const detail::code_address> frames);

// The first place whose function contains the text, or null.
[[nodiscard]] const detail::code_place* place_named(const std::vector<detail::code_place>& places,
                                                    const std::string& text);

// Returns an empty text if functions that contain these texts are there in this order, else the
// whole backtrace.
[[nodiscard]] std::string found_in_order(const std::vector<detail::code_place>& places,
                                         const std::vector<std::string>& texts);

} // namespace creel::test
