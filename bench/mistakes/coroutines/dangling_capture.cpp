// A task is a lambda that captures by value, waits, and uses what it has captured. The captures lie
// in the lambda, not in the coroutine's frame, and the lambda is a temporary.

#include "coroutine/group.hpp"
#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"

#include <chrono>
#include <iostream>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

task<> serve() {
    std::cout << "numbers 1 and 2 are:" << std::flush;
    co_await with_group([](group& g) -> task<> {
        for (const int number : {1, 2})
            g.spawn([number]() -> task<> {
                co_await sleep_for(1ms);
                const bool right = number == 1 || number == 2;
                std::cout << (right ? " right" : " wrong") << std::flush;
            }());
        co_return;
    });
    std::cout << std::endl;
}

} // namespace

int main() {
    run(serve());
}
