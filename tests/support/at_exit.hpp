// Calls a function at the end of a scope: for tests of destructors that wait or look at something.
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
