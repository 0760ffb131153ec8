// A recursion of 20,000 levels, as by a parser that is given "[[[[..." by a stranger. The frames
// lie on the heap, and nothing but memory limits their number.

#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"
#include "coroutine/task.hpp"

#include <chrono>
#include <iostream>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

struct level {
    const level* outer;
    int number;
};

task<int> descend(const level* outer, int left) {
    const level here{outer, left};
    if (left > 0)
        co_return co_await descend(&here, left - 1);
    co_await sleep_for(1ms); // waits for more bytes
    int levels = 0;
    for (const level* l = &here; l != nullptr; l = l->outer)
        ++levels;
    co_return levels;
}

task<> serve() {
    std::cout << "levels: " << co_await descend(nullptr, 20'000) << std::endl;
}

} // namespace

int main() {
    run(serve());
}
