#pragma once

// A process that cannot outlive the benchmark: killed at the end of its scope, and by the kernel
// if the benchmark itself dies.

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

#include <sys/types.h>

namespace creel::bench {

class child {
public:
    // Forks, pins the child to the `core`-th allowed core and runs `body` there with the writing
    // end of a pipe. When `body` returns the child exits 0, when it throws it says so and exits 1.
    // The calling process must have one thread only. Throws: std::system_error.
    child(unsigned core, const std::function<void(int pipe)>& body);
    child(const child&) = delete;
    child& operator=(const child&) = delete;
    ~child();

    [[nodiscard]] pid_t pid() const { return pid_; }

    // Reads exactly `bytes` that the child wrote to its pipe. Throws: std::runtime_error when the
    // child died or `milliseconds` have passed.
    void read_exact(void* data, std::size_t bytes, int milliseconds) const;

    // Reads until the child has closed its pipe. Throws: std::runtime_error when `milliseconds`
    // have passed.
    [[nodiscard]] std::string read_all(int milliseconds) const;

private:
    using clock = std::chrono::steady_clock;

    // 0 at the end of the pipe. Throws: std::runtime_error when the deadline has passed.
    std::size_t read_some(char* data, std::size_t bytes, clock::time_point deadline) const;

    pid_t pid_ = -1;
    int pipe_ = -1;
};

} // namespace creel::bench
