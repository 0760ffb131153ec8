// The best io_uring servers that we can write by hand and that only accept and close. The multishot
// accept takes all connections that wait at once. Single accepts take as many as there are entries;
// an entry is renewed in the same system call that waits for the next completion. They use ordinary
// descriptors and close(2), which measured the same as direct descriptors that the ring closes. The
// style is C on purpose.

#include "../accept/server.hpp"
#include "../echo/server.hpp"
#include "raw_listener.hpp"
#include "raw_ring.hpp"

#include <sys/socket.h>
#include <unistd.h>

namespace creel::bench::peers {
namespace {

void start_accept(io_uring& ring, int listener, bool multishot) {
    io_uring_sqe* sqe = raw_ring_entry(ring);
    if (multishot)
        io_uring_prep_multishot_accept(sqe, listener, nullptr, nullptr, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, listener, nullptr, nullptr, SOCK_CLOEXEC);
}

void serve(const accepting::job& what, bool multishot) {
    const raw_listener listener = raw_listen();
    io_uring ring{};
    raw_ring_open(ring);
    for (unsigned i = 0; i < (multishot ? 1 : what.accepts); ++i)
        start_accept(ring, listener.descriptor, multishot);
    echo::report_port(what.port_pipe, listener.port);
    for (;;)
        raw_ring_turn(ring, [&](const io_uring_cqe* cqe) {
            if (cqe->res < 0)
                raw_fail("accept", -cqe->res);
            close(cqe->res);
            what.finished.fetch_add(1, std::memory_order_release);
            if ((cqe->flags & IORING_CQE_F_MORE) == 0)
                start_accept(ring, listener.descriptor, multishot);
        });
}

} // namespace
} // namespace creel::bench::peers

namespace creel::bench::accepting {

void serve_with_multishot(const job& what) {
    peers::serve(what, true);
}

void serve_with_single_accepts(const job& what) {
    peers::serve(what, false);
}

} // namespace creel::bench::accepting
