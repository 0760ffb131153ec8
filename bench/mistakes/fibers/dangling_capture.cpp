// A task is a lambda that captures by value, waits, and uses what it has captured. With fibers this
// is no mistake: spawn keeps the closure until the child has ended.

#include <creel/creel.hpp>

#include <chrono>
#include <iostream>

using namespace std::chrono_literals;

int main() {
    creel::io::run([] {
        std::cout << "numbers 1 and 2 are:" << std::flush;
        creel::with_nursery([](creel::nursery& n) {
            for (const int number : {1, 2})
                n.spawn([number] {
                    creel::this_fiber::sleep_for(1ms);
                    const bool right = number == 1 || number == 2;
                    std::cout << (right ? " right" : " wrong") << std::flush;
                });
        });
        std::cout << std::endl;
    });
}
