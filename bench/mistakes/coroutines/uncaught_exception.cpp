// A child throws, and nothing catches it.

#include "coroutine/group.hpp"
#include "coroutine/loop.hpp"
#include "coroutine/sleep.hpp"

#include <chrono>
#include <stdexcept>

using namespace same_job::coroutine;
using namespace std::chrono_literals;

namespace {

task<> fetch() {
    co_await sleep_for(1ms);
    throw std::runtime_error("no such page");
}

task<> serve() {
    co_await with_group([](group& g) -> task<> {
        g.spawn(fetch());
        co_return;
    });
}

} // namespace

int main() {
    run(serve());
}
