// creel's server, written as a user of creel would write it.

#include "server.hpp"

#include "../echo/server.hpp"

#include <creel/creel.hpp>

namespace creel::bench::accepting {

void serve_with_creel(const job& what) {
    io::run([&] {
        io::tcp_listener listener{io::endpoint{"127.0.0.1", 0}};
        echo::report_port(what.port_pipe,
                          static_cast<std::uint16_t>(listener.local_endpoint().port()));
        creel::with_nursery([&](creel::nursery& acceptors) {
            for (unsigned i = 0; i < what.accepts; ++i)
                acceptors.spawn([&] {
                    for (;;) {
                        {
                            auto peer = listener.accept();
                        }
                        what.finished.fetch_add(1, std::memory_order_release);
                    }
                });
        });
    });
}

} // namespace creel::bench::accepting
