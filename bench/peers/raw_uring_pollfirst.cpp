// The best io_uring echo server that we can write by hand with single-shot receives. A receive has
// POLL_FIRST unless the last completion said that the socket still holds data. It uses one 16 KiB
// buffer per connection, sends by the ring, direct descriptors and one system call per batch. The
// style is C on purpose: it is the opponent, and uses nothing of creel.

#include "../echo/server.hpp"
#include "raw_listener.hpp"
#include "raw_ring.hpp"

#include <cerrno>

#include <sys/socket.h>

namespace creel::bench::peers {
namespace {

struct connection {
    int length;     // bytes of the echo under way
    bool more_data; // the socket held more when it was last read
};

struct server {
    io_uring ring;
    int listener;
    unsigned char* buffers;
    connection connections[raw_slots];
};

// A large object. Its pages take no memory until they are touched.
server state;

unsigned char* buffer_of(unsigned slot) {
    return state.buffers + static_cast<std::size_t>(slot) * raw_stride;
}

void start_recv(unsigned slot) {
    io_uring_sqe* sqe = raw_ring_entry(state.ring);
    io_uring_prep_recv(sqe, static_cast<int>(slot), buffer_of(slot), raw_buffer_bytes, 0);
    sqe->flags = IOSQE_FIXED_FILE;
    if (!state.connections[slot].more_data)
        sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    io_uring_sqe_set_data64(sqe, raw_tag(raw_recv, slot));
}

void handle(const io_uring_cqe* cqe) {
    const unsigned slot = raw_slot_of(cqe);
    const int result = cqe->res;
    switch (raw_operation_of(cqe)) {
    case raw_recv:
        if (result <= 0) {
            raw_start_close(state.ring, slot);
            return;
        }
        state.connections[slot].more_data = (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
        state.connections[slot].length = result;
        raw_start_send(state.ring, slot, buffer_of(slot), result);
        return;
    case raw_send:
        if (result == state.connections[slot].length)
            start_recv(slot);
        else
            raw_start_close(state.ring, slot);
        return;
    case raw_accept:
        if (result < 0)
            raw_fail("accept", -result);
        state.connections[result] = {};
        start_recv(static_cast<unsigned>(result));
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            raw_start_accept(state.ring, state.listener);
        return;
    case raw_close:
        raw_fail("close", -result);
    case raw_cancel:
        return;
    }
}

void serve(int port_pipe) {
    const raw_listener listener = raw_listen();
    state.listener = listener.descriptor;
    state.buffers = raw_buffers(raw_slots);
    raw_ring_open(state.ring);
    raw_start_accept(state.ring, state.listener);
    echo::report_port(port_pipe, listener.port);
    for (;;) {
        raw_ring_turn(state.ring, handle);
    }
}

const echo::server_registration here{"raw_uring_pollfirst", true, serve};

} // namespace
} // namespace creel::bench::peers
