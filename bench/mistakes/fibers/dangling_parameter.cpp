// A function takes its argument by reference, waits, and uses the argument; the caller passes a
// temporary. With fibers this is no mistake: the caller waits in the call, so the temporary lives.

#include <creel/creel.hpp>

#include <chrono>
#include <iostream>

using namespace std::chrono_literals;

namespace {

bool ask(const int& number) {
    creel::this_fiber::sleep_for(1ms);
    return number == 1;
}

} // namespace

int main() {
    creel::io::run([] {
        creel::with_nursery([](creel::nursery& n) {
            auto answer = n.async([] { return ask(1); });
            const bool right = answer.get();
            std::cout << "asked for " << (right ? "number 1" : "another number") << std::endl;
        });
    });
}
