// Shows every fiber of the process: for a program that hangs, or to look at one that runs.
//
//     creel::dump_fibers(std::cerr);
//
//     run 1: thread 4711 "server", begun at main.cpp:12; 3 tasks, 4 fibers, 0 of them idle
//       main (#1) waits for its children, for 1.2s
//           app::serve(int) at server.cpp:88
//         reader (#17, spawned at server.cpp:42) waits for recv from 10.0.0.1:80, for 310ms
//           app::read_request(creel::io::tcp_stream&) at server.cpp:61
//
// io::run does it on SIGQUIT (Ctrl-\ in a terminal): see run_options::dump_signal.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/time.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iosfwd>

namespace creel {

enum class dump_format : unsigned char {
    text,
    json // one object; lengths of time are in nanoseconds
};

struct dump_options {
    dump_format format = dump_format::text;
    // A run with at most so many tasks shows each of them, as a tree. A run with more shows groups:
    // the fibers that were spawned by one line and wait for the same kind of thing, with the
    // backtrace of one of them. At most 10,000.
    std::size_t most_fibers = 1'000;
    std::size_t most_frames = 16; // of a backtrace, at most 64; 0: no backtraces
    bool all_frames = false;      // also those of creel and Boost, which a backtrace leaves out
    // A thread that does nothing in this time is shown as stalled. One that does not make its part,
    // but moves, has the same time once more, and is shown as late.
    saturating_duration patience = std::chrono::milliseconds{100};
    // Only the fiber with this number, however many there are; 0: all.
    std::uint64_t fiber = 0;
};

// Writes all fibers of all runs of the process: the parent, name and spawn site of each, what it
// waits for, since when and until when, whether it is cancelled, its stack and its backtrace. Each
// run copies its own fibers between two switches, in slices of some milliseconds, and lets its
// fibers run in between. So the runs, and the fibers of a large run, are not copied at one instant.
// A thread that does not answer, because a fiber computes or blocks it, is shown as stalled: with
// how many fibers it had at its last poll, the fiber that runs, what that does, and its backtrace.
// A signal takes the backtrace of a thread that computes, if a run has a dump_signal; else it has
// none. A thread in a system call gets no signal, except while it waits for another thread (futex),
// and with most_frames = 0 no thread does. One that moves, and is only slow to answer, is shown as
// late.
//
// The functions, files and lines of a backtrace come from the program's debug information (compile
// with -g1 at least) if libdw.so.1 of elfutils is installed; else only functions are named.
//
// Parks: until the text is made, which takes a tenth of a second or more the first time. A plain
// thread blocks. Cancel: no. Threads: any; not in a handler of a signal. Throws: std::bad_alloc;
// std::system_error if a fiber's dump gets no thread; what `out` throws. Cost: each run is held up
// for some 5 ms at a time, 10 ms for a list of 10,000 fibers; a microsecond or less for each fiber,
// a system call for each that waits for a peer, and some microseconds for each backtrace.
void dump_fibers(std::ostream& out, const dump_options& options = {});
void dump_fibers(std::ostream& out, dump_format format);

} // namespace creel
