#include <creel/io/readiness.hpp>

#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/detail/ring/operation.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <optional>
#include <string>

#include <poll.h>

namespace creel::io {
namespace {

using detail::operation;

void describe_readable(const waiter& w, std::string& text) {
    text += "readable descriptor " + std::to_string(static_cast<const operation&>(w).fd);
}

void describe_writable(const waiter& w, std::string& text) {
    text += "writable descriptor " + std::to_string(static_cast<const operation&>(w).fd);
}

constexpr waiter_kind readable{&detail::withdraw_operation, &describe_readable, true};
constexpr waiter_kind writable{&detail::withdraw_operation, &describe_writable, true};

void wait_for(int fd, unsigned events, const waiter_kind& kind, const char* call) {
    detail::ring& r = detail::ring_for(call);
    for (;;) {
        check_cancel();
        if (!r.has_room()) [[unlikely]]
            r.make_room();
        operation op{kind, r, fd};
        // If a record has the descriptor, this wait is a member of its list: the record's close
        // ends the wait, and closes the descriptor after it.
        detail::descriptor* const record = r.descriptors().find(fd);
        std::optional<detail::descriptor_call> inside;
        if (record != nullptr) {
            if (record->closing()) // it has ended the members of its list, and waits for them
                throw_error(EBADF, std::string{call} + " on descriptor " + std::to_string(fd) +
                                       ": it is being closed");
            inside.emplace(*record);
            inside->waits = &op;
        }
        r.perform(op, [&](io_uring_sqe& entry) { io_uring_prep_poll_add(&entry, fd, events); });
        const bool closed = record != nullptr && record->closing();
        if (op.result >= 0)
            return;
        if (op.was_cancelled())
            throw_cancelled();
        if (closed)
            throw_error(EBADF, std::string{call} + " on descriptor " + std::to_string(fd) +
                                   ": closed while it was waiting");
        if (op.result != -EINTR)
            throw_error(-op.result, std::string{call} + " on descriptor " + std::to_string(fd));
    }
}

} // namespace

void wait_readable(int fd) {
    wait_for(fd, POLLIN, readable, "wait_readable");
}

void wait_writable(int fd) {
    wait_for(fd, POLLOUT, writable, "wait_writable");
}

} // namespace creel::io
