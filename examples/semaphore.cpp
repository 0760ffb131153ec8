// Many fibers want a slow backend. A semaphore lets three of them in at a time, in the order in
// which they came. A rate_limiter bounds how many begin per second.
#include <creel/creel.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <stdexcept>

using namespace std::chrono_literals;
using creel::sync::rate_limiter;
using creel::sync::semaphore;

namespace {

struct backend {
    int busy = 0;
    int most_busy = 0;

    void ask() {
        const struct visit {
            backend& asked;
            ~visit() { --asked.busy; } // also when a deadline ends the sleep
        } here{*this};
        most_busy = std::max(most_busy, ++busy);
        creel::this_fiber::sleep_for(2ms);
    }
};

} // namespace

int main() {
    creel::io::run([] {
        backend slow;
        int given_up = 0;
        semaphore slots{3};
        rate_limiter begins{{.tokens = 2, .per = 1ms, .burst = 5}};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 30; ++i)
                n.spawn([&] {
                    begins.acquire();
                    const auto slot = slots.hold(); // released at the closing brace
                    slow.ask();
                });
            // A fiber with a short deadline leaves the line. The fibers behind it lose no time.
            n.spawn([&] {
                const bool asked = creel::move_on_after(1ms, [&] {
                    const auto slot = slots.hold(3);
                    slow.ask();
                });
                given_up += asked ? 0 : 1;
            });
        });
        std::cout << "30 requests, at most " << slow.most_busy << " at a time, " << given_up
                  << " given up\n";
        if (slow.most_busy > 3 || slots.statistics().available != 3)
            throw std::runtime_error("the semaphore let too many in, or lost a permit");
    });
}
