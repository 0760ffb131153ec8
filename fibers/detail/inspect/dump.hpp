// A dump of all runs: it asks them, and writes what they answer.
#pragma once

#include <creel/fibers/detail/inspect/snapshot.hpp>
#include <creel/fibers/dump.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace creel::detail {

// Blocks the thread while the runs answer. Threads: any without a run. Throws: std::bad_alloc.
[[nodiscard]] std::string make_dump(const dump_options& options);

// "main (#1)", "reader (#17, spawned at server.cpp:42)"
[[nodiscard]] std::string name_of_fiber(const fiber_snapshot& f);

// A line for each of some fibers, and their backtraces. Blocks the thread while it looks up names.
// Threads: any; with room for that on its stack: no fiber. Throws: std::bad_alloc.
[[nodiscard]] std::string text_of_fibers(const std::vector<fiber_snapshot>& fibers);

// The text of runs that have answered. Threads: one at a time. Throws: std::bad_alloc.
class code_names;
[[nodiscard]] std::string fibers_as_text(const std::vector<fiber_snapshot>& fibers,
                                         code_names& names);
[[nodiscard]] std::string dump_as_text(const std::vector<run_snapshot>& runs, code_names& names,
                                       bool all_frames);
[[nodiscard]] std::string dump_as_json(const std::vector<run_snapshot>& runs, code_names& names,
                                       bool all_frames);

// The text of one run that a fiber of it has copied. Threads: any without a run.
// Throws: std::bad_alloc.
[[nodiscard]] std::string make_text_of(run_snapshot run);

// The frames as a dump shows them, each on a line that begins with `indent`.
// Blocks the thread while the names are looked up. Threads: any without a run.
// Throws: std::bad_alloc.
[[nodiscard]] std::string make_backtrace_text(const std::vector<code_address>& frames,
                                              std::string_view indent);

[[nodiscard]] std::string frames_as_text(const std::vector<code_address>& frames, code_names& names,
                                         bool all_frames, std::string_view indent);

} // namespace creel::detail
