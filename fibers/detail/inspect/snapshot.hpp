// What a run looks like at one moment: the data of a dump, copied on the run's own thread.
#pragma once

#include <creel/fibers/detail/inspect/live_run.hpp>
#include <creel/fibers/detail/inspect/running_fiber.hpp>
#include <creel/fibers/detail/unwind/unwind.hpp>
#include <creel/fibers/task_info.hpp>
#include <creel/fibers/time.hpp>
#include <creel/fibers/waiter.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

namespace creel::detail {

inline constexpr std::size_t most_frames_copied = 64; // of a fiber

enum class fiber_state : std::uint8_t {
    parked, // in a call of creel
    ready,
    elsewhere,   // it waits by Boost's own means
    not_parked,  // ready or elsewhere: a group does not tell
    in_line,     // a task that has no fiber yet: max_fibers exist
    not_started, // a task whose turn has not come
    ended,       // it ended while the others were listed
    running      // only if the fiber itself copies the run
};

struct fiber_snapshot {
    enum class kind_type : std::uint8_t { main, task, native };

    kind_type kind = kind_type::task;
    fiber_state state = fiber_state::ready;
    std::size_t depth = 0; // below main, or below the native that it hangs under
    task_info who{};       // of main and natives only the number
    std::string nursery{}; // the name of the nursery that it is a child of
    std::source_location nursery_opened_at{};

    std::string waits_for{};  // if it is parked, as the next four
    std::string details{};    // ", 2nd of 5 in line"
    party_number held_by = 0; // by whom alone the wait can end; 0: not known
    std::string holder{};     // its name, once it is looked up
    duration waited{};
    std::optional<duration> left{};   // until the deadline that its waits see
    std::string cancel{};             // why it is cancelled, or asked to end; empty: it is not
    bool cancel_is_in_effect = false; // false: a grace runs
    bool is_shielded = false;         // from that cancel

    std::size_t stack_used_bytes = 0; // 0: not known
    std::size_t stack_bytes = 0;
    std::vector<code_address> frames{}; // innermost first
};

// Fibers that were spawned by one line and wait for the same kind of thing.
struct fiber_group {
    fiber_snapshot first{}; // the first that was found
    std::size_t fibers = 0;
    duration shortest{}; // waits
    duration longest{};
    std::uint64_t waits_longest = 0; // the number of that fiber
};

struct run_snapshot {
    enum class ending : std::uint8_t {
        whole,
        stalled,  // the thread has not answered, and does not move: only the counts are known
        late,     // it has not answered, but it moves: likewise
        cut_short // there was no memory for the rest, or a waiter's describe() has thrown
    };

    ending how = ending::whole;
    unsigned number = 0;     // of the run: see run_counters.hpp
    duration patience{};     // for which a thread that has not answered was waited for
    time_point last_poll{};  // of such a thread, by its run's clock
    run_progress progress{}; // of a stalled thread: while it is the same, the thread is stalled
    int thread_id = 0;       // as top -H shows it
    std::string thread_name{};
    std::source_location began_at{}; // line 0: not known
    std::uint64_t tasks = 0;         // children alive, started or not
    std::uint64_t fibers = 0;        // carriers, idle ones included
    std::uint64_t idle_fibers = 0;
    // One of these is empty.
    std::vector<fiber_snapshot> tree{};  // parents before their children
    std::vector<fiber_group> groups{};   // the largest first
    std::size_t ungrouped = 0;           // fibers of further groups
    std::size_t not_looked_at = 0;       // further tasks that have not started
    std::vector<code_address> running{}; // of a stalled thread, innermost first
    running_fiber runs{};                // on a stalled thread
    std::string does{};                  // what that fiber does: "computes"
};

} // namespace creel::detail
