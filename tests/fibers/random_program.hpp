// One program of structured concurrency made up from a seed, and run beside a model of the rules.
//
// A program has no plan: each fiber draws its next call from its own random numbers, until the
// program has done its number of operations or is nested as deep as allowed. So a program does the
// same each time. No wait can hold it up for ever: after ten seconds of virtual time a janitor
// opens each gate, and no fiber waits for a fiber that may wait for it.
//
// random_program.cpp says at each check what it checks.
#pragma once

#include "support/manual_poller.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace creel::test {

// The calls of a program, and their possible outcomes. Programs are of use only if all of them
// happen.
#define CREEL_TEST_FEATURES                                                                        \
    yield, checkpoint, sleep, long_sleep, sleep_until, gate, gate_with_timeout, open_gate,         \
        let_one_pass, compute, error, swallow, rethrow, wait_in_handler, scope,                    \
        scope_cancelled_before, move_on_after, move_on_at, fail_after, shield, with_stop_token,    \
        token_run, token_run_in_itself, cancel_scope, cancel_with_grace, set_deadline,             \
        toggle_shield, ask_scope, ask_deadline, token_of_scope, current_token, free_token,         \
        cancel_token, cancel_token_with_grace, ask_token, nursery_that_cancels,                    \
        nursery_that_collects, nursery_that_reports, limited_nursery, nursery_with_value, spawn,   \
        async, get, get_after_nursery, start, set_started, child_moved, child_stayed,              \
        start_without_set, start_failed, start_refused, all, race, race_won, map, native,          \
        native_dispatched, destructor, destructor_that_unwinds, scope_in_destructor,               \
        nursery_in_destructor, nursery_in_native, remote_spawn, remote_refused, child_refused,     \
        child_dropped, report_handled, wait_cancelled, scope_absorbed, scope_passed_on, timed_out, \
        nursery_absorbed, nursery_passed_on, group_thrown

enum class feature : std::uint8_t { CREEL_TEST_FEATURES, number_of_features };
inline constexpr auto features = static_cast<std::size_t>(feature::number_of_features);
using feature_counts = std::array<std::uint64_t, features>;
[[nodiscard]] std::string name_of(feature f);

// Shared by the programs of several threads: tokens, and handles of each other's nurseries.
class shared_by_programs;
[[nodiscard]] std::shared_ptr<shared_by_programs> make_shared_by_programs();
// The number of closures handed to other threads and not destroyed yet.
[[nodiscard]] int closures_alive(const shared_by_programs& shared);

class random_program {
public:
    // A program with `shared` cancels the programs of other threads, and they cancel it. Then only
    // those facts are checked that no other thread can change: a token once cancelled stays
    // cancelled.
    random_program(std::uint32_t seed, manual_poller& outside, feature_counts& done,
                   shared_by_programs* shared = nullptr);
    // Not before the programs that share with it have ended.
    ~random_program();

    // Inside a run over the poller, as its main fiber; once.
    void run();

    // The first rule that did not hold; empty if all did.
    [[nodiscard]] const std::string& failure() const;
    // A line for each operation so far, indented as it is nested.
    [[nodiscard]] const std::string& listing() const;

    class body;

private:
    std::unique_ptr<body> body_;
};

} // namespace creel::test
