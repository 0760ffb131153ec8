// Deadlines. A call has no time-out of its own. It runs inside a scope that has a deadline; when
// the deadline has passed, every wait in the scope, however deep, is cancelled.
#include <creel/creel.hpp>

#include <chrono>
#include <iostream>
#include <optional>
#include <string>

using namespace std::chrono_literals;

namespace {

struct noisy {
    ~noisy() { std::cout << "  cleaned up\n"; }
};

std::string slow_answer(std::chrono::milliseconds needed) {
    noisy on_the_way_out;
    creel::this_fiber::sleep_for(needed);
    return "42";
}

} // namespace

int main() {
    creel::io::run([] {
        // move_on_after returns an optional. It is empty if the deadline came first.
        std::optional<std::string> quick =
            creel::move_on_after(1s, [] { return slow_answer(1ms); });
        std::cout << "in time: " << quick.value_or("nothing") << '\n';

        std::optional<std::string> late =
            creel::move_on_after(10ms, [] { return slow_answer(1h); });
        std::cout << "too late: " << late.value_or("nothing") << '\n';

        // fail_after throws timed_out instead, which is a std::exception.
        try {
            creel::fail_after(10ms, [] { return slow_answer(1h); });
        } catch (const creel::timed_out& error) {
            std::cout << "caught: " << error.what() << '\n';
        }

        // Scopes nest. Here the outer deadline passes first. Its cancel passes through the inner
        // scope, and the outer scope absorbs it. No catch (const std::exception&) can swallow it.
        bool finished = creel::move_on_after(10ms, [] {
            creel::move_on_after(1h, [] { slow_answer(1h); });
            std::cout << "never printed\n";
        });
        std::cout << "outer scope " << (finished ? "finished" : "ran out of time") << '\n';
    });
}
