// A call without its co_await: a task that is made and destroyed. One compiler warning tells of
// save(2); nothing tells of the task that has a name.

#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"
#include "coroutine/task.hpp"

#include <chrono>
#include <iostream>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

int saved = 0;

task<int> save(int value) {
    co_await sleep_for(1ms);
    co_return saved = value;
}

task<> serve() {
    auto later = save(1); // never awaited
    save(2);
    std::cout << "saved: " << saved << std::endl;
    co_return;
}

} // namespace

int main() {
    run(serve());
}
