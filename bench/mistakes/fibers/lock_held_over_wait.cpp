// A std::mutex is held over a wait. Another fiber of the same thread wants it.

#include <creel/creel.hpp>

#include <chrono>
#include <iostream>
#include <mutex>

using namespace std::chrono_literals;

int main() {
    creel::io::run([] {
        std::mutex m;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    std::cout << "locks" << std::endl;
                    const std::lock_guard held{m};
                    creel::this_fiber::sleep_for(1ms);
                });
        });
        std::cout << "both had the lock" << std::endl;
    });
}
