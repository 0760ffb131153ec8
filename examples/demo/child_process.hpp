// A process of the demo, run by the parent: this program with other arguments. It is killed when
// the parent ends, in whatever way.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace demo {

class child_process {
public:
    // Starts the process. The parent reads its standard output; they share the standard error.
    // Throws: std::system_error.
    child_process(std::string name, std::vector<std::string> arguments);

    // Kills the process if it has not ended, and reaps it.
    ~child_process();

    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    // Returns the next line that it prints, without the end of line; empty at the end of its
    // output. Parks: until a line has come. Cancel: yes.
    std::optional<std::string> read_line();

    // Returns its exit status, or 128 plus the signal that killed it, as a shell does. Several
    // fibers may wait. Parks: until the process has ended. Cancel: yes.
    int wait();

    // Asks the process to end (SIGTERM).
    void terminate() noexcept;

private:
    std::string name_;
    int pid_ = -1;
    int pid_fd_ = -1;    // readable when the process has ended
    int output_ = -1;    // the reading end of the pipe
    std::string read_{}; // the begin of a line
    std::optional<int> status_{};
};

} // namespace demo
