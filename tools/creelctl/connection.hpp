// Asks a process at its inspect socket: one line goes out, the answer comes until the end of the
// stream.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

#include <sys/types.h>

namespace creelctl {

struct ask_options {
    std::chrono::milliseconds patience = std::chrono::seconds{20};
    std::size_t most_bytes = 256U << 20; // of the answer
    // Waits until the descriptor is ready for these events of poll(2), as long as until then. False:
    // it is not. It may throw, to end the call.
    std::function<bool(int descriptor, short events, std::chrono::steady_clock::time_point until)>
        wait{};
};

struct answer {
    std::string text{};
    uid_t user = 0; // of the process that listens there
};

// `address` is a path, or "@name". Throws: failure, also for an answer that tells of an error; what
// options.wait throws.
[[nodiscard]] answer ask(const std::string& address, const std::string& line,
                         const ask_options& options = {});

// " of user 1000" if that is another one than creelctl's, for root may ask all. Else nothing.
[[nodiscard]] std::string of_other_user(const answer& a);

} // namespace creelctl
