// A function takes its argument by reference, waits, and uses the argument; the caller passes a
// temporary, and awaits the task later.

#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"
#include "coroutine/task.hpp"

#include <chrono>
#include <iostream>
#include <utility>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

task<bool> ask(const int& number) {
    co_await sleep_for(1ms);
    co_return number == 1;
}

task<> serve() {
    auto answer = ask(1);
    const bool right = co_await std::move(answer);
    std::cout << "asked for " << (right ? "number 1" : "another number") << std::endl;
}

} // namespace

int main() {
    run(serve());
}
