// How often a scheduler polls the outside world while something is always ready.
//
// It polls once in a round. A round ends when all that was ready at the last poll has run, and then
// all that became ready meanwhile: a marker goes through the ready queue twice to show that (once,
// if nothing became ready). So the fibers that a batch of completions wakes, and those that these
// hand work to, submit their operations together. With a poll between the two, a chat server sent
// fewer lines with each send, and took 1.2 times the CPU.
//
// Two polls are at least 64 switches apart while slices are short, which keeps polling cheap for a
// few fibers that yield; and at most 2,048, which bounds how long timers and completions wait
// behind a long queue. A poll every 64 switches, however long the queue is, was measured and
// rejected: completions then pile up in front of hundreds of ready fibers, their data falls out of
// the cache, and an echo of 16 KiB on 512 connections cost 1.4 to 1.7 times the CPU of an echo with
// one poll a round.
//
// So after every 64 switches the scheduler looks whether a poll is due. The states of a round:
//
//   short   -- 1 a look: the marker is gone ----------> (poll, next round)
//   short   -- 2 a look: the marker is queued --------> long     32 looks at most, or 10 ms
//   long    -- 3 pop() takes the marker out ----------> (poll at the next switch, next round)
//   long    -- 4 a look: too many looks, or too long -> (poll, next round)     from short, too,
//                                                       if the first look finds 10 ms passed
//   both    -- 5 poll_at_next_switch() ---------------> (poll at the next switch, next round)
//
//   short: looks_ == 0. long: looks_ > 0. begin_round() starts the next round, after each poll.
//
// While a run is traced, each switch takes the way of one that comes to a look, and the trace is
// told there. So a run without a trace has no code for it where it switches. To force this,
// hold_back() moves the count of the switches to held_back_, where it goes on. So polls come as
// often as without a trace.
//
// 64 switches pass between two looks, or fewer while the slices of the fibers are long: as many as
// took at most 2 ms at the last look. A fiber's budget of cancellation points shrinks with them.
#pragma once

#include <creel/fibers/detail/run/ready_queue.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/time.hpp>

#include <chrono>
#include <utility>

namespace creel::detail {

// Threads: the scheduler's own.
class polling_pace {
public:
    void begin_run(time_point now) noexcept;

    // Changes with each switch. Its value says nothing else. Threads: any. The owner writes these
    // words plainly. The processor reads an aligned word whole.
    [[nodiscard]] CREEL_NOT_INSTRUMENTED int pulse() const noexcept {
        return __atomic_load_n(&switches_left_, __ATOMIC_RELAXED) +
               __atomic_load_n(&held_back_, __ATOMIC_RELAXED);
    }

    // One switch passes. False if a look comes first.
    [[nodiscard]] bool pass_switch() noexcept { return --switches_left_ >= 0; }
    // The same, if switch_is_left().
    void pass_switch_left() noexcept { --switches_left_; }
    [[nodiscard]] bool switch_is_left() const noexcept { return switches_left_ > 0; }
    [[nodiscard]] bool look_is_due() const noexcept { return switches_left_ < 0; }
    void look_at_next_switch() noexcept {
        switches_left_ = 0;
        held_back_ = 0;
    }
    void poll_at_next_switch() noexcept {
        look_at_next_switch();
        looks_ = looks_per_round;
    }

    // Of a traced run, after begin_run(), begin_round() and put_off().
    void hold_back() noexcept { held_back_ = std::exchange(switches_left_, 0); }
    // Of a traced run, at a look: true if none is due, because the switch came here only to be
    // traced. Counts the switch.
    [[nodiscard]] bool pass_held_back() noexcept {
        if (--held_back_ < 0)
            return false;
        switches_left_ = 0;
        return true;
    }

    // At a look: true if a poll is due, whatever the clock says. Counts the look.
    [[nodiscard]] bool round_is_over() noexcept {
        return !marker_queued_ || ++looks_ >= looks_per_round;
    }
    [[nodiscard]] static bool is_too_long(duration without_poll) noexcept {
        return without_poll >= longest_round;
    }
    // At a look that puts the poll off.
    void put_off(time_point now) noexcept {
        look(now);
        switches_left_ = switches_per_look_;
    }
    // After a poll.
    void begin_round(time_point now, ready_queue& ready) noexcept;
    // The thread has slept or spun: that was no slice of a fiber.
    void was_idle() noexcept { last_look_ = time_point::max(); }

    // Pops what can run; null if there is nothing. Passes over the marker.
    [[nodiscard]] runnable* pop(ready_queue& ready) noexcept {
        runnable* r = ready.pop();
        if (r == &marker_) [[unlikely]] {
            pass_marker(ready);
            r = ready.pop();
        }
        return r;
    }
    [[nodiscard]] bool anything_in(const ready_queue& ready) const noexcept {
        const runnable* first = ready.front();
        return first != nullptr && (first != &marker_ || first->next_ready != nullptr);
    }
    [[nodiscard]] bool is_marker(const runnable& r) const noexcept { return &r == &marker_; }
    // At the end of a run: the queue goes to an algorithm that knows no markers.
    void remove_marker(ready_queue& ready) noexcept;

    // Cancellation points between two switches before a fiber yields; tokio's budget is the model.
    [[nodiscard]] int full_budget() const noexcept { return full_budget_; }

private:
    static constexpr int most_switches_per_look = 64;
    static constexpr int looks_per_round = 32;
    static constexpr int budget_per_switch = 2;
    static constexpr duration longest_round = std::chrono::milliseconds{10};
    static constexpr duration longest_between_looks = std::chrono::milliseconds{2};

    void look(time_point now) noexcept;
    void pass_marker(ready_queue& ready) noexcept;

    int switches_left_ = 0; // until the next look; below 0: it is due
    int held_back_ = 0;     // of a traced run: the same, and switches_left_ is 0 or below
    int looks_ = 0;         // that put the poll off, in this round
    int switches_per_look_ = most_switches_per_look;
    int full_budget_ = budget_per_switch * most_switches_per_look;
    bool marker_queued_ = false;
    bool marker_passed_ = false; // once, in this round
    time_point last_look_{};     // max(): the thread has been idle since
    runnable marker_{runnable::kind_type::marker};
};

} // namespace creel::detail
