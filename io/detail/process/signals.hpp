// Signals belong to the process, rings to threads: this dispatcher stands between the two.
//
//     signal_watch watch{set_of(SIGHUP), ring.wake_descriptor()};
//     ... // woken
//     if (watch.take() == SIGHUP) reload();
//
// A signal marks every watch of it and wakes the ring of each. The watchers decide what the signal
// means; signalled_runs.hpp decides that for SIGINT and SIGTERM. The states of one signal:
//
//                  ┌──1──► watched: our handler ──3──┐
//     unwatched ───┤                                 ├───► unwatched: the old action again
//                  └──2──► watched: ignored ─────4───┘
//
//     1  the first watch of the signal begins: install()
//     2  the same, but the action was SIG_IGN (nohup sets it): install() leaves it, and no signal
//        reaches the watch
//     3  the last watch ends: restore(). If the program has installed a handler of its own since 1,
//        that handler stays; the program's handler also gets the signal from then on.
//     4  the last watch ends: there is nothing to restore
//
// Each watch has a slot, which the handler reads:
//
//     free ──1. signal_watch()──► taken ──2. end()──► leaving ──3. end()──► free
//
//     2  The old action comes back first, so that no signal is lost in a slot that nothing reads.
//     3  No handler that has seen the slot still runs (leave_slot() waits for that), so the caller
//        may close its wake descriptor.
//
// A forked child that runs no other program takes signals as if its parent watched none: the first
// signal restores the old action and is raised again, and the first watch forgets the parent's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace creel::io::detail {

using signal_set = std::uint64_t; // bit n - 1: signal n

[[nodiscard]] constexpr signal_set set_of(int number) noexcept {
    return signal_set{1} << static_cast<unsigned>(number - 1);
}

class signal_watch {
public:
    // `wake_descriptor`: the eventfd of the ring to wake, open until end() has returned.
    // Threads: any. Throws: std::system_error.
    signal_watch(signal_set numbers, int wake_descriptor);
    ~signal_watch() { end(); }
    signal_watch(const signal_watch&) = delete;
    signal_watch& operator=(const signal_watch&) = delete;

    // Takes the lowest signal that has come since this watch began; 0: none is left. Signals of one
    // number count as one until it is taken. Threads: one at a time.
    [[nodiscard]] int take() noexcept;

    // Ends the watch: no handler touches the descriptor any more. take() still gives the signals
    // that came before. Idempotent. Threads: as take().
    void end() noexcept;

private:
    signal_set numbers_;
    std::size_t slot_ = 0;
    signal_set untaken_ = 0; // the signals that came and that take() has not given yet
    bool watching_ = true;
};

// True if the signal is watched already, or has its default action: the program has none of its
// own. Threads: any.
[[nodiscard]] bool is_free(int number) noexcept;

// The handler of a watched signal asks its gate before it marks the watches. False: no watch is
// marked, and the signal takes its default action at once. A gate must be async-signal-safe. Null:
// the signals have no gate. Threads: any.
using signal_gate = bool (*)(int number) noexcept;
void set_signal_gate(signal_set numbers, signal_gate gate) noexcept;

// Has fork() take the dispatcher's lock, so that a forked child finds it free. A file that calls
// the dispatcher under its own lock calls this first, and then registers that lock for forks.
void register_signals_for_forks() noexcept;

// "SIGTERM"
[[nodiscard]] std::string signal_name(int number);

} // namespace creel::io::detail
