#pragma once

// A process that cannot outlive the benchmark. Its destructor kills it; if the benchmark dies, the
// kernel kills it.

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

#include <sys/types.h>

namespace creel::bench {

class child {
public:
    // Forks, pins the child to the `core`-th allowed core and runs `body` there with the writing
    // end of a pipe. If `body` returns, the child exits with 0. If `body` throws, the child prints
    // the error and exits with 1. The calling process must have only one thread.
    // Throws: std::system_error.
    child(unsigned core, const std::function<void(int pipe)>& body);
    child(const child&) = delete;
    child& operator=(const child&) = delete;
    ~child();

    [[nodiscard]] pid_t pid() const { return pid_; }

    // Reads exactly `bytes` from the child's pipe. Throws: std::runtime_error when the child has
    // ended or `milliseconds` have passed.
    void read_exact(void* data, std::size_t bytes, int milliseconds) const;

    // Reads until the child has closed its pipe. Throws: std::runtime_error when `milliseconds`
    // have passed.
    [[nodiscard]] std::string read_all(int milliseconds) const;

private:
    using clock = std::chrono::steady_clock;

    // Returns 0 at the end of the pipe. Throws: std::runtime_error when the deadline has passed.
    std::size_t read_some(char* data, std::size_t bytes, clock::time_point deadline) const;

    pid_t pid_ = -1;
    int pipe_ = -1;
};

} // namespace creel::bench
