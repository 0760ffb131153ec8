// A child uses a local of the body, and the body ends first.

#include <creel/creel.hpp>

#include <chrono>
#include <iostream>
#include <string>

using namespace std::chrono_literals;

int main() {
    creel::io::run([] {
        creel::with_nursery([](creel::nursery& n) {
            std::string mine = "the request of Alice, long enough for the heap";
            n.spawn([&] {
                creel::this_fiber::sleep_for(1ms);
                std::string other = "the request of Bob, which is also on the heap.";
                std::cout << "Alice reads: " << mine << std::endl;
            });
        });
    });
}
