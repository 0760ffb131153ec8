// The text of a backtrace, made by a thread of its own: to look up names needs more stack than a
// fiber may have, and takes long.
#pragma once

#include <creel/fibers/detail/unwind/unwind.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace creel::detail {

// A line for each frame that a dump shows; empty if there are no frames.
// Parks: in a fiber, until the text is made; a plain thread blocks. Cancel: no. Threads: any.
// Throws: std::bad_alloc. If there can be no thread, the text is of addresses.
[[nodiscard]] std::string text_of_backtrace(const std::vector<code_address>& frames,
                                            std::string_view indent = "    ");

// The same for a process that is about to end. It blocks the thread until the names are found, but
// not for ever: what the ending thread holds may be what the names need. All calls of a process
// together wait for at most 20 s; from then on the text is of addresses.
[[nodiscard]] std::string text_at_end(const std::vector<code_address>& frames,
                                      std::string_view indent) noexcept;

// Calls make() on a thread of its own, and waits for its text for 20 s at most. `make` must own
// what it uses. Empty if it has thrown, has taken longer, or if there can be no thread.
[[nodiscard]] std::string made_elsewhere(std::function<std::string()> make) noexcept;

} // namespace creel::detail
