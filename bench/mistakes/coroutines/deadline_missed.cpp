// Work that never waits runs past its deadline.

#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"
#include "coroutine/task.hpp"

#include <chrono>
#include <iostream>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

task<int> compute() {
    const auto end = clock::now() + 60ms;
    int steps = 0;
    while (clock::now() < end)
        ++steps;
    co_return steps > 0 ? 42 : 0;
}

task<> serve() {
    const auto before = clock::now();
    try {
        std::cout << "the result is " << co_await timeout(10ms, compute());
    } catch (const timed_out& error) {
        std::cout << error.what();
    }
    const bool late = clock::now() - before >= 60ms;
    std::cout << (late ? ", after 60 ms or more" : ", in time") << std::endl;
}

} // namespace

int main() {
    run(serve());
}
