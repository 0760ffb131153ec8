// One coroutine calls a function that blocks the thread for 200 ms. Another one should run every 5
// ms.

#include "coroutine/group.hpp"
#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

task<> tick(clock::duration& longest) {
    for (int i = 0; i < 5; ++i) {
        const auto before = clock::now();
        co_await sleep_for(5ms);
        longest = std::max(longest, clock::now() - before);
    }
}

task<> query() {
    std::this_thread::sleep_for(200ms); // a query, a name to resolve
    co_return;
}

task<> serve() {
    clock::duration longest{};
    co_await with_group([&](group& g) -> task<> {
        g.spawn(tick(longest));
        g.spawn(query());
        co_return;
    });
    std::cout << "a sleep of 5 ms took " << (longest >= 190ms ? "190 ms or more" : "less")
              << std::endl;
}

} // namespace

int main() {
    run(serve());
}
