// What the process writes to stderr, for a test of text that another thread writes.
#pragma once

#include <string>

namespace creel::test {

// While it exists, stderr is a file in memory. Threads: one at a time makes and destroys it.
class stderr_capture {
public:
    stderr_capture(); // Throws: std::system_error
    ~stderr_capture();
    stderr_capture(const stderr_capture&) = delete;
    stderr_capture& operator=(const stderr_capture&) = delete;

    // All that was written until now. Threads: any.
    [[nodiscard]] std::string text() const;

private:
    int file_;
    int before_;
};

} // namespace creel::test
