// A waiter in no list, for tests of park() and wake() themselves. It allocates nothing. When it is
// asked to withdraw, it gives the answer that the test has chosen.
#pragma once

#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <string>

namespace creel::test {

struct bare_waiter : creel::waiter {
    static creel::withdrawal withdraw(creel::waiter& w, creel::wake_reason why) noexcept {
        auto& self = static_cast<bare_waiter&>(w);
        self.why = why;
        self.asked.fetch_add(1);
        return self.answer;
    }
    static void describe(const creel::waiter&, std::string& text) { text += "a bare waiter"; }
    static constexpr creel::waiter_kind cancellable{&withdraw, &describe};
    static constexpr creel::waiter_kind uncancellable{&withdraw, &describe, false};

    explicit bare_waiter(creel::withdrawal to_answer = creel::withdrawal::pending,
                         const creel::waiter_kind& kind = cancellable) noexcept
        : waiter(kind), answer(to_answer) {}

    const creel::withdrawal answer;
    creel::wake_reason why = creel::wake_reason::signalled; // the reason of the last request
    std::atomic<int> asked{0}; // counts requests; any thread may read it
};

} // namespace creel::test
