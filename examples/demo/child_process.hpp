// A process of the demo, run by the parent: this program again, with other arguments. It dies with
// the parent, whatever ends that.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace demo {

class child_process {
public:
    // Starts it. Its standard output is ours to read; its errors go where ours go.
    // Throws: std::system_error.
    child_process(std::string name, std::vector<std::string> arguments);

    // Kills what has not ended, and reaps it.
    ~child_process();

    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    // The next line it prints, without its end; empty at the end of its output.
    // Parks: until a line has come. Cancel: yes.
    std::optional<std::string> read_line();

    // Its exit status, or 128 plus the signal that killed it, as a shell has it.
    // Parks: until it has ended. Cancel: yes. Several may wait.
    int wait();

    // Asks it to end (SIGTERM).
    void terminate() noexcept;

private:
    std::string name_;
    int pid_ = -1;
    int pid_fd_ = -1;    // readable once it has ended
    int output_ = -1;    // the reading end of the pipe
    std::string read_{}; // not yet a line
    std::optional<int> status_{};
};

} // namespace demo
