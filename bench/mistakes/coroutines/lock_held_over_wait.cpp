// A std::mutex is held over a wait. Another coroutine of the same thread wants it.

#include "coroutine/group.hpp"
#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"

#include <chrono>
#include <iostream>
#include <mutex>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

task<> use(std::mutex& m) {
    std::cout << "locks" << std::endl;
    const std::lock_guard held{m};
    co_await sleep_for(1ms);
}

task<> serve() {
    std::mutex m;
    co_await with_group([&](group& g) -> task<> {
        for (int i = 0; i < 2; ++i)
            g.spawn(use(m));
        co_return;
    });
    std::cout << "both had the lock" << std::endl;
}

} // namespace

int main() {
    run(serve());
}
