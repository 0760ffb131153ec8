// The semaphore family. `free`: acquire and release of one permit without contention. `pingpong`:
// two fibers, each of which waits for the permit that the other releases. An operation is a round
// trip of two such hand-overs.

#include "micro.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/io/run.hpp>
#include <creel/sync/semaphore.hpp>

#include <cstdint>
#include <semaphore>
#include <stdexcept>

namespace creel::bench {
namespace {

template <class Semaphore>
void acquire_free_one(meter& meter, Semaphore& s) {
    std::uint64_t inside = 0;
    meter.measure([&] {
        for (auto left = meter.rounds(); left > 0; --left) {
            s.acquire();
            ++inside;
            s.release();
        }
    });
    if (inside != meter.rounds())
        throw std::runtime_error("not every permit was had");
}

void creel_free(meter& meter) {
    io::run([&] {
        sync::semaphore s{4};
        acquire_free_one(meter, s);
    });
}

void std_thread_free(meter& meter) {
    std::counting_semaphore<> s{4};
    acquire_free_one(meter, s);
}

void creel_pingpong(meter& meter) {
    sync::semaphore there{1};
    sync::semaphore back{1};
    std::uint64_t answered = 0;
    io::run([&](nursery& root) {
        there.acquire();
        back.acquire();
        root.spawn([&] {
            for (auto left = meter.rounds(); left > 0; --left) {
                there.acquire();
                ++answered;
                back.release();
            }
        });
        meter.measure([&] {
            for (auto left = meter.rounds(); left > 0; --left) {
                there.release();
                back.acquire();
            }
        });
    });
    if (answered != meter.rounds())
        throw std::runtime_error("not every permit was answered");
}

micro make() {
    return micro{"semaphore"}
        .add("creel", contender, {"free"}, creel_free)
        .add("creel", contender, {"pingpong"}, creel_pingpong)
        .add("std_thread", control, {"free"}, std_thread_free);
}

const registration times{[] { return make().family(); }};
const registration instructions{[] { return make().instruction_family(); }};

} // namespace
} // namespace creel::bench
