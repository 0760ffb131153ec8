// A child uses a local of the body, and the body ends first.

#include "coroutine/group.hpp"
#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"

#include <chrono>
#include <iostream>
#include <string>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

task<> read(const std::string& mine) {
    co_await sleep_for(1ms);
    std::string other = "the request of Bob, which is also on the heap.";
    std::cout << "Alice reads: " << mine << std::endl;
}

task<> serve() {
    co_await with_group([](group& g) -> task<> {
        std::string mine = "the request of Alice, long enough for the heap";
        g.spawn(read(mine));
        co_return;
    });
}

} // namespace

int main() {
    run(serve());
}
