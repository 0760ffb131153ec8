// How a process that runs a function ends: for tests that run it in a child process, because it
// ends the process or changes it for good.
#pragma once

#include "support/child_process.hpp"
#include "support/manual_poller.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/scheduler.hpp>

#include <string>

namespace creel::test {

// Runs f in a child process and returns what f writes to stderr before it aborts. If the child did
// not abort, returns how it ended: "child exited with code 0; its stderr:".
[[nodiscard]] std::string abort_of(test_body<> f);

// Does the same in a run under a virtual clock: f may take the manual_poller&.
[[nodiscard]] std::string abort_of_run(test_body<manual_poller> f,
                                       creel::scheduler_options options = {});

// Runs f in a child process and returns how the child failed; empty if it exited with 0.
[[nodiscard]] std::string failure_of(test_body<> f);

// Returns true if a write to a protected page ended the child: by SIGSEGV, or by the exit of a
// sanitizer that reports the signal.
[[nodiscard]] bool died_of_a_fault(const child_result& child);

} // namespace creel::test
