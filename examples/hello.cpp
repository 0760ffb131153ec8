// A nursery owns fibers and waits for all of them: three greetings, side by side on one thread.
#include <creel/creel.hpp>

#include <chrono>
#include <iostream>

using namespace std::chrono_literals;

namespace {

void greet(int times, std::chrono::milliseconds pause) {
    for (int i = 1; i <= times; ++i) {
        creel::this_fiber::sleep_for(pause); // this fiber waits, the thread runs the others
        std::cout << creel::this_fiber::name() << " says hello " << i << " of " << times << '\n';
    }
}

} // namespace

int main() {
    creel::io::run([] {
        creel::with_nursery([](creel::nursery& n) {
            n.spawn({.name = "ann"}, [] { greet(3, 20ms); });
            n.spawn({.name = "bob"}, [] { greet(2, 30ms); });
            n.spawn({.name = "eve"}, [] { greet(1, 50ms); });
            std::cout << "three fibers wait to run\n";
        });
        std::cout << "all have ended\n"; // always the last line: no fiber outlives its nursery
    });
}
