// Calls a function when it goes out of scope: a destructor that waits, or looks, in a test.
#pragma once

namespace creel::test {

template <typename F>
struct at_exit {
    F f;
    ~at_exit() { f(); }
};
template <typename F>
at_exit(F) -> at_exit<F>;

} // namespace creel::test
