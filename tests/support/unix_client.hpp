// A plain client of a Unix socket, for tests of the inspect socket.
#pragma once

#include <string>

namespace creel::test {

// A connection to a path or to "@name". Threads: one at a time.
class unix_client {
public:
    explicit unix_client(const std::string& address);
    ~unix_client();
    unix_client(const unix_client&) = delete;
    unix_client& operator=(const unix_client&) = delete;

    // 0: it is connected; else the error of connect(2).
    [[nodiscard]] int error() const noexcept { return error_; }
    void send(const std::string& text) const;
    // All that comes until the end of the stream; 30 s without a byte end it too.
    [[nodiscard]] std::string receive_all() const;

private:
    int descriptor_;
    int error_ = 0;
};

// Sends a line, and returns the answer.
[[nodiscard]] std::string ask_unix(const std::string& address, const std::string& line);

// A path that no other test uses, in a folder that is removed at the end.
class temporary_folder {
public:
    temporary_folder();
    ~temporary_folder();
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;

    [[nodiscard]] std::string file(const std::string& name) const { return path_ + '/' + name; }

private:
    std::string path_;
};

} // namespace creel::test
