// The record behind a listener. Each fiber that waits in accept() has one accept with the kernel,
// so what nobody waits for stays in the kernel's backlog: a multishot accept would take all of it,
// and every descriptor with it, before it could be stopped.
#pragma once

#include <creel/io/detail/descriptor/descriptor.hpp>

namespace creel::io::detail {

class acceptor final : public descriptor {
public:
    // Takes the descriptor over, also when it throws. Throws: std::bad_alloc.
    static acceptor* adopt(owned_fd fd);

    // A connected descriptor. Parks: until there is one, first come first served. Cancel: yes,
    // then none was taken. Throws: std::system_error.
    [[nodiscard]] owned_fd accept();

private:
    explicit acceptor(int fd) noexcept : descriptor(kind, fd) {}
    ~acceptor() = default;

    struct look;
    void pass_on() noexcept;

    static void let_go(descriptor& d, creel::inbox_node& done) noexcept;
    static const descriptor_kind kind;

    bool nobody_else_waits_ = false; // as pass_on() has found, and no accept has come since
};

} // namespace creel::io::detail
