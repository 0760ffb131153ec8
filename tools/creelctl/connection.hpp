// Asks a process at its inspect socket: one line goes out, the answer comes until the end of the
// stream.
#pragma once

#include <chrono>
#include <string>

namespace creelctl {

// `address` is a path, or "@name". Throws: failure, also for an answer that tells of an error.
[[nodiscard]] std::string ask(const std::string& address, const std::string& line,
                              std::chrono::milliseconds patience = std::chrono::seconds{20});

} // namespace creelctl
