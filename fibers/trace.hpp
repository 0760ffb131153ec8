// Records what a run does: each slice of a fiber, each wait and what it was for, spawns, ends,
// cancels, and the polls of the thread. Perfetto (ui.perfetto.dev) shows it.
//
//     creel::io::run({.trace = "server.json"}, serve);
//
// It is a flight recorder: the events go to memory of a fixed size, scheduler_options::trace_bytes,
// in which the newest overwrite the oldest. The file is written when the run ends, also if a
// failed assertion or an uncaught error of its thread ends the process.
#pragma once

#include <creel/fibers/build_check.hpp>

namespace creel {

// Writes what the trace of the calling thread's run has recorded until now, in place of what the
// file had. The run and its trace go on. False if the run has no trace, or off a run. A failure is
// told on stderr.
// Parks: never; it blocks the thread while it writes, about a second for 64 MiB. Cancel: no.
// Threads: those with a scheduler; on others it does nothing.
bool write_trace() noexcept;

} // namespace creel
