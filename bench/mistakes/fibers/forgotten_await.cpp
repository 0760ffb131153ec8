// A call without its co_await. With fibers the call is all there is to write. What can be
// forgotten is the get() of an async: the child runs all the same, and the nursery awaits it.

#include <creel/creel.hpp>

#include <chrono>
#include <iostream>

using namespace std::chrono_literals;

namespace {

int saved = 0;

int save(int value) {
    creel::this_fiber::sleep_for(1ms);
    return saved = value;
}

} // namespace

int main() {
    creel::io::run([] {
        creel::with_nursery([](creel::nursery& n) {
            n.async([] { return save(1); }); // no get()
        });
        std::cout << "saved: " << saved << std::endl;
        save(2);
        std::cout << "saved: " << saved << std::endl;
    });
}
