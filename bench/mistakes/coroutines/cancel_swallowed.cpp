// A worker that never gives up: it catches everything and tries again. A deadline should end it.

#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"
#include "coroutine/task.hpp"

#include <chrono>
#include <iostream>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

task<> fetch() {
    co_await sleep_for(1h);
}

task<> fetch_for_sure() {
    for (;;)
        try {
            co_await fetch();
            co_return;
        } catch (...) {
        }
}

task<> serve() {
    std::cout << "a deadline of 10 ms" << std::endl;
    co_await timeout(10ms, fetch_for_sure());
    std::cout << "over" << std::endl;
}

} // namespace

int main() {
    run(serve());
}
