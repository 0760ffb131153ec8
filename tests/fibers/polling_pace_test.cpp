#include <creel/fibers/detail/run/polling_pace.hpp>

#include "support/check.hpp"

#include <array>
#include <chrono>

using namespace std::chrono_literals;
using creel::detail::polling_pace;
using creel::detail::ready_queue;
using creel::detail::runnable;

namespace {

constexpr creel::time_point begin{1h};

// Passes switches until a look is due; returns their number.
int switches_until_look(polling_pace& pace) {
    int switches = 0;
    while (pace.pass_switch())
        ++switches;
    return switches;
}

} // namespace

TEST_CASE("polling_pace: a short round ends at its first look") {
    polling_pace pace;
    ready_queue ready;
    pace.begin_run(begin);
    pace.begin_round(begin, ready); // nothing is ready: no marker
    CHECK(switches_until_look(pace) == 64);
    CHECK(pace.look_is_due());
    CHECK(pace.round_is_over());
}

TEST_CASE("polling_pace: a long round ends when what was ready, and what that woke, has run") {
    polling_pace pace;
    ready_queue ready;
    constexpr auto fiber = runnable::kind_type::fiber;
    std::array<runnable, 4> some{runnable{fiber}, runnable{fiber}, runnable{fiber},
                                 runnable{fiber}};
    ready.push(some[0]);
    pace.begin_run(begin);
    pace.begin_round(begin, ready);
    switches_until_look(pace);
    CHECK_FALSE(pace.round_is_over()); // the marker is still queued
    pace.put_off(begin);

    CHECK(pace.pop(ready) == &some[0]); // it wakes two others
    ready.push(some[1]);
    ready.push(some[2]);
    CHECK(pace.pop(ready) == &some[1]); // behind the marker; it wakes a third
    ready.push(some[3]);
    CHECK(pace.pop(ready) == &some[2]);
    CHECK(pace.switch_is_left());
    CHECK(pace.anything_in(ready));     // besides the marker
    CHECK(pace.pop(ready) == &some[3]); // the round ended before it
    CHECK_FALSE(pace.switch_is_left());
    CHECK(pace.round_is_over());
    CHECK(pace.pop(ready) == nullptr);
}

TEST_CASE("polling_pace: a long round ends with what was ready if that wakes nothing") {
    polling_pace pace;
    ready_queue ready;
    runnable one{runnable::kind_type::fiber};
    ready.push(one);
    pace.begin_run(begin);
    pace.begin_round(begin, ready);
    switches_until_look(pace);
    CHECK_FALSE(pace.round_is_over());
    pace.put_off(begin);
    CHECK(pace.pop(ready) == &one);
    CHECK(pace.switch_is_left());
    CHECK(pace.pop(ready) == nullptr); // but for the marker
    CHECK_FALSE(pace.switch_is_left());
    CHECK(pace.round_is_over());
}

TEST_CASE("polling_pace: a round ends after 32 looks, or after 10 ms, while its marker is queued") {
    polling_pace pace;
    ready_queue ready;
    runnable one{runnable::kind_type::fiber};
    ready.push(one);
    pace.begin_run(begin);
    pace.begin_round(begin, ready);
    int looks = 1;
    for (; !pace.round_is_over(); ++looks)
        pace.put_off(begin);
    CHECK(looks == 32);
    CHECK_FALSE(polling_pace::is_too_long(10ms - 1ns));
    CHECK(polling_pace::is_too_long(10ms));
    pace.remove_marker(ready);
    CHECK(ready.pop() == &one);
    CHECK(ready.empty());
}

TEST_CASE("polling_pace: long slices bring the looks closer, and short ones apart again") {
    polling_pace pace;
    ready_queue ready;
    pace.begin_run(begin);
    pace.begin_round(begin, ready);
    CHECK(pace.full_budget() == 128);
    switches_until_look(pace);
    pace.put_off(begin + 8ms); // 64 slices took four times as long as they may
    CHECK(switches_until_look(pace) == 16);
    CHECK(pace.full_budget() == 32);
    pace.put_off(begin + 8ms + 1h); // a slice of any length leaves one switch
    CHECK(switches_until_look(pace) == 1);
    pace.was_idle(); // the sleep was no slice
    pace.put_off(begin + 2h);
    CHECK(switches_until_look(pace) == 2);
    for (int i = 0; i < 10; ++i)
        pace.put_off(begin + 2h);
    CHECK(switches_until_look(pace) == 64);
}
