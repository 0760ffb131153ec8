// The best io_uring echo server that we can write by hand with multishot receives: one receive per
// connection stays armed. Buffers are provided through a ring, sent from their place and given back
// when the send has completed. It uses direct descriptors and one system call per batch. The style
// is C on purpose.
//
// Only a few buffers are in the provided ring. Each round refills it from a stack of free buffers.
// The kernel takes buffers first in, first out: with thousands in the ring it would walk through
// all their memory. The stack gives the buffers that are still in the cache.

#include "../echo/server.hpp"
#include "raw_listener.hpp"
#include "raw_ring.hpp"

#include <cerrno>
#include <cstring>

#include <sys/mman.h>
#include <sys/socket.h>

namespace creel::bench::peers {
namespace {

constexpr unsigned ring_buffers = 64;  // most that the kernel has at a time; a power of two
constexpr unsigned all_buffers = 8192; // 128 MiB of addresses; only used buffers are touched
constexpr unsigned short no_buffer = 0xffff;
constexpr unsigned short buffer_group = 0;

struct connection {
    unsigned short first; // the list of buffers to echo; the send of the first one is under way
    unsigned short last;
    bool receiving; // the multishot receive is armed, or will be when there is a buffer
    bool ended;     // no more data will come; close when all is echoed
};

struct buffer {
    int length;
    unsigned short next;
};

struct server {
    io_uring ring;
    int listener;
    unsigned char* memory;
    io_uring_buf_ring* provided;
    unsigned provided_count;
    unsigned free_count;
    unsigned short free_buffers[all_buffers];
    buffer buffers[all_buffers];
    connection connections[raw_slots];
    unsigned starved_count; // connections whose receive ended because no buffer was free
    unsigned short starved[raw_slots];
};

server state;

unsigned char* memory_of(unsigned id) {
    return state.memory + static_cast<std::size_t>(id) * raw_stride;
}

void start_recv(unsigned slot) {
    io_uring_sqe* sqe = raw_ring_entry(state.ring);
    io_uring_prep_recv_multishot(sqe, static_cast<int>(slot), nullptr, 0, 0);
    sqe->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = buffer_group;
    io_uring_sqe_set_data64(sqe, raw_tag(raw_recv, slot));
    state.connections[slot].receiving = true;
}

void start_send(unsigned slot) {
    const unsigned id = state.connections[slot].first;
    raw_start_send(state.ring, slot, memory_of(id), state.buffers[id].length);
}

// The receive's own completion shows whether the cancel came in time.
void cancel_recv(unsigned slot) {
    io_uring_sqe* sqe = raw_ring_entry(state.ring);
    io_uring_prep_cancel64(sqe, raw_tag(raw_recv, slot), 0);
    io_uring_sqe_set_data64(sqe, raw_tag(raw_cancel, slot));
}

void provide_buffers() {
    int added = 0;
    while (state.provided_count < ring_buffers && state.free_count > 0) {
        const unsigned short id = state.free_buffers[--state.free_count];
        io_uring_buf_ring_add(state.provided, memory_of(id), raw_buffer_bytes, id,
                              io_uring_buf_ring_mask(ring_buffers), added++);
        ++state.provided_count;
    }
    if (added > 0)
        io_uring_buf_ring_advance(state.provided, added);
    // No more receives than buffers: the others would find no buffer again.
    for (unsigned i = 0; i < state.provided_count && state.starved_count > 0; ++i)
        start_recv(state.starved[--state.starved_count]);
}

// The replies to a peer that does not read stay queued here. A receive finds no buffer only when
// all 8,192 are in use; then its connection waits in `starved`.
void handle_recv(unsigned slot, const io_uring_cqe* cqe) {
    connection& peer = state.connections[slot];
    peer.receiving = (cqe->flags & IORING_CQE_F_MORE) != 0;
    unsigned short id = no_buffer;
    if ((cqe->flags & IORING_CQE_F_BUFFER) != 0) {
        id = static_cast<unsigned short>(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        --state.provided_count;
    }
    if (cqe->res > 0) {
        state.buffers[id] = {cqe->res, no_buffer};
        if (peer.first == no_buffer) {
            peer.first = peer.last = id;
            start_send(slot);
        } else {
            state.buffers[peer.last].next = id;
            peer.last = id;
        }
    } else {
        if (id != no_buffer)
            state.free_buffers[state.free_count++] = id;
        peer.ended = peer.ended || cqe->res != -ENOBUFS;
    }
    if (peer.ended && peer.first == no_buffer) {
        raw_start_close(state.ring, slot);
    } else if (!peer.ended && !peer.receiving) {
        state.starved[state.starved_count++] = static_cast<unsigned short>(slot);
        peer.receiving = true;
    }
}

// After a failed send the queued buffers are dropped. The last completion of the receive then
// closes the connection.
void handle_send(unsigned slot, int result) {
    connection& peer = state.connections[slot];
    const bool sent = result == state.buffers[peer.first].length;
    if (!sent && !peer.ended) {
        peer.ended = true;
        cancel_recv(slot);
    }
    do {
        const unsigned short id = peer.first;
        peer.first = state.buffers[id].next;
        state.free_buffers[state.free_count++] = id;
    } while (!sent && peer.first != no_buffer);
    if (peer.first != no_buffer)
        start_send(slot);
    else if (peer.ended && !peer.receiving)
        raw_start_close(state.ring, slot);
}

void handle(const io_uring_cqe* cqe) {
    const unsigned slot = raw_slot_of(cqe);
    switch (raw_operation_of(cqe)) {
    case raw_recv:
        handle_recv(slot, cqe);
        return;
    case raw_send:
        handle_send(slot, cqe->res);
        return;
    case raw_accept:
        if (cqe->res < 0)
            raw_fail("accept", -cqe->res);
        state.connections[cqe->res] = {no_buffer, no_buffer, false, false};
        start_recv(static_cast<unsigned>(cqe->res));
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            raw_start_accept(state.ring, state.listener);
        return;
    case raw_close:
        raw_fail("close", -cqe->res);
    case raw_cancel:
        return;
    }
}

// The ring of provided buffers is a page of descriptors that the kernel reads in place.
void open_provided_ring() {
    void* page = mmap(nullptr, ring_buffers * sizeof(io_uring_buf), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        raw_fail("mmap", errno);
    state.provided = static_cast<io_uring_buf_ring*>(page);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<unsigned long long>(page);
    registration.ring_entries = ring_buffers;
    registration.bgid = buffer_group;
    if (const int error = io_uring_register_buf_ring(&state.ring, &registration, 0); error < 0)
        raw_fail("io_uring_register_buf_ring", -error);
    io_uring_buf_ring_init(state.provided);
    while (state.free_count < all_buffers) {
        state.free_buffers[state.free_count] =
            static_cast<unsigned short>(all_buffers - 1 - state.free_count);
        ++state.free_count;
    }
}

void serve(int port_pipe) {
    const raw_listener listener = raw_listen();
    state.listener = listener.descriptor;
    state.memory = raw_buffers(all_buffers);
    raw_ring_open(state.ring);
    open_provided_ring();
    raw_start_accept(state.ring, state.listener);
    echo::report_port(port_pipe, listener.port);
    for (;;) {
        provide_buffers();
        raw_ring_turn(state.ring, handle);
    }
}

const echo::server_registration here{"raw_uring_multishot", true, serve};

} // namespace
} // namespace creel::bench::peers
