#include <creel/io/error.hpp>

#include <system_error>

namespace creel::io {

void throw_error(int error_number, const std::string& what) {
    throw std::system_error(error_number, std::generic_category(), what);
}

unexpected_eof::unexpected_eof(std::string_view what, std::size_t received_bytes)
    : std::runtime_error(std::string{what} + ": unexpected end after " +
                         std::to_string(received_bytes) + " bytes"),
      received_bytes_(received_bytes) {}

unexpected_eof::~unexpected_eof() = default;

} // namespace creel::io
