#pragma once

// A program of a style, which the driver starts, watches and ends. Its destructor kills it.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

namespace creel::bench::same_job {

class program {
public:
    struct options {
        std::vector<std::string> arguments = {};
        bool count_allocations = false; // loads the library that counts them, which costs time
    };

    // Starts it on the first allowed core, with the descriptor limit raised to the hard one. It may
    // be called inside io::run. Throws: std::system_error.
    program(const std::string& path, const options& wanted);
    program(const program&) = delete;
    program& operator=(const program&) = delete;
    ~program();

    [[nodiscard]] pid_t pid() const { return pid_; }

    // The next line of its stdout, without '\n'. Parks, so only inside io::run; under a deadline of
    // the caller. Throws: std::runtime_error when it has ended without a line.
    std::string read_line();
    // read_line() as a port. Throws: std::runtime_error if it is none.
    std::uint16_t read_port();

    void terminate() const; // sends SIGTERM
    // Its exit status, or 256 + the number of the signal that ended it. Parks.
    int wait();

    [[nodiscard]] std::chrono::nanoseconds cpu_time() const;
    // The resident memory. It is a double because figures are made of it.
    [[nodiscard]] double resident_bytes() const;
    // The same when it has done what it was given: when it uses no CPU time for 40 ms. Parks until
    // then, under a deadline of the caller.
    [[nodiscard]] double idle_bytes() const;
    [[nodiscard]] std::uint64_t waits() const; // how often it has given up its core to wait
    [[nodiscard]] std::ptrdiff_t descriptors() const;
    // Until it has so many: until it has closed the connections of clients that have left. Parks,
    // under a deadline of the caller.
    void wait_for_descriptors(std::ptrdiff_t count) const;
    [[nodiscard]] std::uint64_t allocations() const; // so far; only with count_allocations
    [[nodiscard]] std::chrono::steady_clock::time_point started() const { return started_; }

private:
    program() = default; // starts nothing; what a constructor that throws has begun is undone

    pid_t pid_ = -1;
    int output_ = -1;  // the reading end of its stdout
    int process_ = -1; // a pidfd
    std::string received_{};
    const std::uint64_t* allocations_ = nullptr; // a page shared with the program
    std::chrono::steady_clock::time_point started_{};
};

} // namespace creel::bench::same_job
