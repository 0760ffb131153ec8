// One fiber calls a function that blocks the thread for 200 ms. Another one should run every 5 ms.

#include <creel/creel.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

using namespace std::chrono_literals;

int main() {
    creel::io::run([] {
        creel::duration longest{};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (int i = 0; i < 5; ++i) {
                    const auto before = creel::now();
                    creel::this_fiber::sleep_for(5ms);
                    longest = std::max(longest, creel::now() - before);
                }
            });
            n.spawn([] { std::this_thread::sleep_for(200ms); }); // a query, a name to resolve
        });
        std::cout << "a sleep of 5 ms took " << (longest >= 190ms ? "190 ms or more" : "less")
                  << std::endl;
    });
}
