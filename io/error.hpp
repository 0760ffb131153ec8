// A failure of the environment becomes a std::system_error, which one function throws. Its text
// names the operation and its object.
//
//     try {
//         stream.recv(buffer);
//     } catch (const std::system_error& error) {          // "recv from 10.0.0.1:80: Connection..."
//         if (error.code() == std::errc::connection_reset) ...
//     }
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace creel::io {

// Throws std::system_error for a positive errno value. The category is the generic one, so code()
// compares with std::errc.
// Threads: any. Throws: std::system_error, always.
[[noreturn]] void throw_error(int error_number, const std::string& what);

// Returns a result in the kernel's own form, as io_uring and liburing give it: 0 or more, or
// -errno. Do not pass the C library's -1, for which the reason is in errno.
// Threads: any. Throws: std::system_error if negative. Cost: a comparison on success.
inline int check(int result, std::string_view what) {
    if (result < 0) [[unlikely]]
        throw_error(-result, std::string{what});
    return result;
}

// The same for a text that is expensive to make: describe() is called only for an error.
//     check(result, [&] { return "recv from " + peer.to_string(); });
template <class Describe>
    requires std::is_invocable_r_v<std::string, Describe&>
int check(int result, Describe&& describe) {
    if (result < 0) [[unlikely]]
        throw_error(-result, describe());
    return result;
}

// The peer or the file ended before all requested bytes had come.
class unexpected_eof : public std::runtime_error {
public:
    // `what` is the operation and its object, "recv from 10.0.0.1:80".
    unexpected_eof(std::string_view what, std::size_t received_bytes);
    unexpected_eof(const unexpected_eof&) noexcept = default;
    unexpected_eof& operator=(const unexpected_eof&) noexcept = default;
    ~unexpected_eof() override;

    // How many bytes had come. They are at the front of the caller's buffer.
    [[nodiscard]] std::size_t received_bytes() const noexcept { return received_bytes_; }

private:
    std::size_t received_bytes_;
};

} // namespace creel::io
