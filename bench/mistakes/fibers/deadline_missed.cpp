// Work that never waits runs past its deadline.

#include <creel/creel.hpp>

#include <chrono>
#include <iostream>

using namespace std::chrono_literals;

namespace {

int compute() {
    const auto end = creel::now() + 60ms;
    int steps = 0;
    while (creel::now() < end)
        ++steps;
    return steps > 0 ? 42 : 0;
}

} // namespace

int main() {
    creel::io::run([] {
        const auto before = creel::now();
        try {
            std::cout << "the result is " << creel::fail_after(10ms, compute);
        } catch (const creel::timed_out& error) {
            std::cout << error.what();
        }
        const bool late = creel::now() - before >= 60ms;
        std::cout << (late ? ", after 60 ms or more" : ", in time") << std::endl;
    });
}
