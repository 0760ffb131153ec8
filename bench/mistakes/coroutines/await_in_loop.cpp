// A loop awaits tasks that end without a wait, a million times. Each await is two symmetric
// transfers. Where the compiler does not make tail calls of them, each uses stack.

#include "coroutine/loop.hpp"
#include "coroutine/task.hpp"

#include <iostream>

using namespace same_job::coroutine;

namespace {

task<int> next(int value) {
    co_return value + 1;
} // as from a buffer that is full

task<> serve() {
    int value = 0;
    while (value < 1'000'000)
        value = co_await next(value);
    std::cout << "counted to " << value << std::endl;
}

} // namespace

int main() {
    run(serve());
}
