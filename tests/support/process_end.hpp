// How a process ends that runs a function: for tests that do in a child process what ends it, or
// changes it for good.
#pragma once

#include "support/child_process.hpp"
#include "support/manual_poller.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/scheduler.hpp>

#include <string>

namespace creel::test {

// What f writes to stderr before it aborts, in a child process; how that ended, if it did not
// abort: "child exited with code 0; its stderr:".
[[nodiscard]] std::string abort_of(test_body<> f);

// The same of a run under a virtual clock: f may take the manual_poller&.
[[nodiscard]] std::string abort_of_run(test_body<manual_poller> f,
                                       creel::scheduler_options options = {});

// How a child process failed that f ran in; empty if it exited with 0.
[[nodiscard]] std::string failure_of(test_body<> f);

// True if a write to where nothing may be written ended it: by SIGSEGV, or by the exit of a
// sanitizer that reports the signal.
[[nodiscard]] bool died_of_a_fault(const child_result& child);

} // namespace creel::test
