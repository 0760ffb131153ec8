// The best io_uring echo server we can write by hand with single-shot receives: POLL_FIRST unless
// the last completion said that the socket still holds data, one 16 KiB buffer per connection,
// send on the ring, direct descriptors, one system call per batch. C style on purpose: it is the
// opponent, and owes creel nothing.

#include "../echo/server.hpp"
#include "raw_listener.hpp"
#include "raw_ring.hpp"

#include <cerrno>

#include <sys/socket.h>

namespace creel::bench::peers {
namespace {

enum operation : unsigned { op_accept, op_recv, op_send, op_close };

struct connection {
    int length;     // bytes being echoed
    bool more_data; // the socket held more when it was last read
};

struct server {
    io_uring ring;
    int listener;
    unsigned char* buffers;
    connection connections[raw_slots];
};

// The largest object here, zero pages until touched.
server state;

unsigned long long tag(operation op, unsigned slot) {
    return static_cast<unsigned long long>(slot) << 8 | op;
}

unsigned char* buffer_of(unsigned slot) {
    return state.buffers + static_cast<std::size_t>(slot) * raw_stride;
}

void start_accept() {
    io_uring_sqe* sqe = raw_ring_entry(state.ring);
    io_uring_prep_multishot_accept_direct(sqe, state.listener, nullptr, nullptr, 0);
    io_uring_sqe_set_data64(sqe, tag(op_accept, 0));
}

void start_recv(unsigned slot) {
    io_uring_sqe* sqe = raw_ring_entry(state.ring);
    io_uring_prep_recv(sqe, static_cast<int>(slot), buffer_of(slot), raw_buffer_bytes, 0);
    sqe->flags = IOSQE_FIXED_FILE;
    if (!state.connections[slot].more_data)
        sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    io_uring_sqe_set_data64(sqe, tag(op_recv, slot));
}

void start_send(unsigned slot) {
    io_uring_sqe* sqe = raw_ring_entry(state.ring);
    io_uring_prep_send(sqe, static_cast<int>(slot), buffer_of(slot),
                       static_cast<std::size_t>(state.connections[slot].length),
                       MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, tag(op_send, slot));
}

void start_close(unsigned slot) {
    io_uring_sqe* sqe = raw_ring_entry(state.ring);
    io_uring_prep_close_direct(sqe, slot);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, tag(op_close, slot));
}

void handle(const io_uring_cqe* cqe) {
    const auto op = static_cast<operation>(cqe->user_data & 0xff);
    const auto slot = static_cast<unsigned>(cqe->user_data >> 8);
    const int result = cqe->res;
    switch (op) {
    case op_recv:
        if (result <= 0) {
            start_close(slot);
            return;
        }
        state.connections[slot].more_data = (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
        state.connections[slot].length = result;
        start_send(slot);
        return;
    case op_send:
        if (result == state.connections[slot].length)
            start_recv(slot);
        else
            start_close(slot);
        return;
    case op_accept:
        if (result < 0)
            raw_fail("accept", -result);
        state.connections[result] = {};
        start_recv(static_cast<unsigned>(result));
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            start_accept();
        return;
    case op_close:
        raw_fail("close", -result);
    }
}

void serve(int port_pipe) {
    const raw_listener listener = raw_listen();
    state.listener = listener.descriptor;
    state.buffers = raw_buffers(raw_slots);
    raw_ring_open(state.ring);
    start_accept();
    echo::report_port(port_pipe, listener.port);
    for (;;) {
        const int error = io_uring_submit_and_wait(&state.ring, 1);
        if (error < 0 && error != -EINTR)
            raw_fail("io_uring_submit_and_wait", -error);
        unsigned head = 0;
        unsigned count = 0;
        io_uring_cqe* cqe = nullptr;
        io_uring_for_each_cqe(&state.ring, head, cqe) {
            handle(cqe);
            ++count;
        }
        io_uring_cq_advance(&state.ring, count);
    }
}

const echo::server_registration here{"raw_uring_pollfirst", true, serve};

} // namespace
} // namespace creel::bench::peers
