#include <creel/io/error.hpp>

#include <cerrno>
#include <system_error>

#include <sys/resource.h>

namespace creel::io {

void throw_error(int error_number, const std::string& what) {
    std::string text = what;
    rlimit limit{};
    if (error_number == EMFILE && ::getrlimit(RLIMIT_NOFILE, &limit) == 0)
        text += " (`ulimit -n` is " + std::to_string(limit.rlim_cur) + ")";
    throw std::system_error(error_number, std::generic_category(), text);
}

unexpected_eof::unexpected_eof(std::string_view what, std::size_t received_bytes)
    : std::runtime_error(std::string{what} + ": unexpected end after " +
                         std::to_string(received_bytes) + " bytes"),
      received_bytes_(received_bytes) {}

unexpected_eof::~unexpected_eof() = default;

} // namespace creel::io
