// The socket at which a process can be inspected: its name, and who may connect.
#pragma once

#include <string>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace creel::io::detail {

// A listening socket. Threads: one at a time.
class inspect_socket {
public:
    // "unix:/run/app.sock" or "unix:@app". A file that is left of a dead process is replaced.
    // Throws: std::system_error: no such name is possible, or the name is in use.
    explicit inspect_socket(const std::string& address);
    // Removes the file, unless it is another's by now.
    ~inspect_socket();
    inspect_socket(const inspect_socket&) = delete;
    inspect_socket& operator=(const inspect_socket&) = delete;

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

    // The next client that may look at this process; its descriptor does not block. -1: there is
    // none now. Those of other users are closed.
    [[nodiscard]] int accept_client() const noexcept;

private:
    void parse();
    void bind_to_name();
    void replace_dead_file();
    [[noreturn]] void fail(int error, const std::string& why) const;

    const std::string address_;
    sockaddr_un name_{};
    socklen_t name_bytes_ = 0;
    bool is_file_ = false;
    int descriptor_ = -1;
    struct stat made_ {}; // the file
};

} // namespace creel::io::detail
