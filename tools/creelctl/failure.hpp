// What ends creelctl with a message and an exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace creelctl {

enum exit_code : int {
    done = 0,
    refused = 1, // the process could not do what was asked
    wrong_usage = 2,
    no_process = 3,
    no_socket = 4, // the process, or the path, has no inspect socket
    no_permission = 5,
    no_answer = 6, // it was there, and has not answered
};

class failure : public std::runtime_error {
public:
    failure(exit_code code, const std::string& text) : std::runtime_error(text), code_(code) {}
    [[nodiscard]] exit_code code() const noexcept { return code_; }

private:
    exit_code code_;
};

} // namespace creelctl
