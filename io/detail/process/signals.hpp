// Signals belong to the process, rings to threads: the dispatcher between the two.
//
//     signal_watch watch{set_of(SIGHUP), ring.wake_descriptor()};
//     ... // woken
//     if (watch.take() == SIGHUP) reload();
//
// A signal marks every watch of it and wakes that watch's ring. What it means is the watchers'
// business; that of SIGINT and SIGTERM is in shutdown.hpp. Each signal by itself:
//
//     unwatched ──first watch──► watched: our handler   ──last watch ends──► unwatched
//                                 or SIG_IGN, if that was the action
//                                 (as under nohup): it stays ignored
//
// At the end the old action comes back, unless the program has meanwhile installed a handler of its
// own: that one stays, and gets the signal at once. A forked child takes signals as if its parent
// watched none.
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
    // `wake_descriptor`: the eventfd of the ring to wake, open until end(). Threads: any. Throws:
    // std::system_error.
    signal_watch(signal_set numbers, int wake_descriptor);
    ~signal_watch() { end(); }
    signal_watch(const signal_watch&) = delete;
    signal_watch& operator=(const signal_watch&) = delete;

    // One that has come since this watch began, the lowest, each once; 0: none is left. Signals of
    // the same number that come before it is taken are one. Threads: one at a time.
    [[nodiscard]] int take() noexcept;

    // Ends the watch: no handler touches the descriptor any more. take() still has what came
    // before. Idempotent.
    void end() noexcept;

private:
    signal_set numbers_;
    std::size_t slot_ = 0;
    signal_set left_ = 0; // what had come and was not taken at the end
    bool watching_ = true;
};

// Asked in the handler of each of `numbers` that has a watch, before the watches are marked. False:
// nobody is told, and the signal takes its default action at once. Async-signal-safe. Null: none.
using signal_gate = bool (*)(int number) noexcept;
void set_signal_gate(signal_set numbers, signal_gate gate) noexcept;

// So that a forked child finds the dispatcher's lock free. Whoever calls the dispatcher under a
// lock of its own registers that one for forks after this.
void keep_signals_in_forks() noexcept;

// "SIGTERM"
[[nodiscard]] std::string signal_name(int number);

} // namespace creel::io::detail
