// Waiting for a descriptor that another library reads and writes, so that it need not block the
// thread: a database client, a display connection, a pipe.
//
//     while (PQisBusy(connection)) {
//         io::wait_readable(PQsocket(connection));
//         PQconsumeInput(connection);
//     }
#pragma once

#include <creel/fibers/build_check.hpp>

namespace creel::io {

// Returns when a read (a write) would not block: there is data or room, the peer has hung up, or
// the descriptor has an error that the read (the write) will report. The caller owns the descriptor
// and keeps it open until the call returns. Several fibers may wait for one descriptor. If it
// belongs to a stream or listener that is closed on this thread meanwhile, the wait ends with
// bad_file_descriptor, and then the descriptor is closed. A file is always ready, as for poll(2).
// Parks: until the descriptor is ready. Cancel: yes. Threads: those inside io::run.
// Throws: cancelled, std::system_error.
void wait_readable(int fd);
void wait_writable(int fd);

} // namespace creel::io
