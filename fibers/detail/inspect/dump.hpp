// A dump of all runs: it asks them, and writes what they answer.
#pragma once

#include <creel/fibers/detail/inspect/snapshot.hpp>
#include <creel/fibers/dump.hpp>

#include <string>
#include <vector>

namespace creel::detail {

// Blocks the thread while the runs answer. Threads: any without a run. Throws: std::bad_alloc.
[[nodiscard]] std::string make_dump(const dump_options& options);

// The text of runs that have answered. Threads: one at a time. Throws: std::bad_alloc.
class code_names;
[[nodiscard]] std::string dump_as_text(const std::vector<run_snapshot>& runs, code_names& names,
                                       bool all_frames);
[[nodiscard]] std::string dump_as_json(const std::vector<run_snapshot>& runs, code_names& names,
                                       bool all_frames);

} // namespace creel::detail
