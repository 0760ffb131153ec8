#include <creel/io/detail/socket/former_name.hpp>

#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <new>
#include <string>
#include <system_error>

namespace creel::io::detail {
namespace {

std::unique_ptr<const endpoint> former(endpoint (*address_of)(int), int fd) noexcept {
    try {
        return std::make_unique<const endpoint>(address_of(fd));
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) { // the message of a later call then has no address
    }
    return nullptr;
}

} // namespace

std::unique_ptr<const endpoint> former_peer(int fd) noexcept {
    return former(&peer_address, fd);
}

std::unique_ptr<const endpoint> former_address(int fd) noexcept {
    return former(&local_address, fd);
}

void throw_not_open(const char* call, const char* kind, const endpoint* socket) {
    if (socket == nullptr)
        throw_not_open(call);
    throw_error(EBADF, std::string{call} + " on " + kind + socket->to_string() +
                           ", which was closed or released");
}

} // namespace creel::io::detail
