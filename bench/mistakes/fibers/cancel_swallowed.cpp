// A worker that never gives up: it catches everything and tries again. A deadline should end it.

#include <creel/creel.hpp>

#include <chrono>
#include <iostream>

using namespace std::chrono_literals;

namespace {

void fetch() {
    creel::this_fiber::sleep_for(1h);
}

void fetch_for_sure() {
    for (;;)
        try {
            fetch();
            return;
        } catch (...) {
        }
}

} // namespace

int main() {
    creel::io::run([] {
        std::cout << "a deadline of 10 ms" << std::endl;
        creel::move_on_after(10ms, fetch_for_sure);
        std::cout << "over" << std::endl;
    });
}
