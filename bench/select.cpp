// The select family: the cost of taking one item from any of four queues. All of them have items,
// and each item goes back to its queue.

#include "micro.hpp"

#include <creel/io/run.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/select.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <stdexcept>

namespace creel::bench {
namespace {

constexpr std::size_t queues = 4;
constexpr std::size_t items_each = 8;

void check(const std::array<std::uint64_t, queues>& taken, std::uint64_t rounds) {
    std::uint64_t all = 0;
    for (const auto count : taken) {
        all += count;
        if (rounds > 1000 && count < rounds / queues / 2)
            throw std::runtime_error("a queue was starved");
    }
    if (all != rounds)
        throw std::runtime_error("not every round has taken an item");
}

void creel_ready(meter& meter) {
    std::array<std::uint64_t, queues> taken{};
    io::run([&] {
        using queue = sync::queue<std::uint64_t>;
        std::array<queue, queues> all{queue{items_each}, queue{items_each}, queue{items_each},
                                      queue{items_each}};
        for (auto& q : all)
            for (std::size_t i = 0; i < items_each; ++i)
                static_cast<void>(q.try_push(i));
        const auto put_back = [&](std::size_t from) {
            return [&, from](std::optional<std::uint64_t> item) {
                ++taken[from];
                static_cast<void>(all[from].try_push(item.value()));
            };
        };
        meter.measure([&] {
            for (auto left = meter.rounds(); left > 0; --left)
                sync::select(sync::on_pop(all[0], put_back(0)), sync::on_pop(all[1], put_back(1)),
                             sync::on_pop(all[2], put_back(2)), sync::on_pop(all[3], put_back(3)));
        });
    });
    check(taken, meter.rounds());
}

// The control: four deques, each with a mutex. Each round starts at a random one.
void locked_ready(meter& meter) {
    struct locked_queue {
        std::mutex mutex;
        std::deque<std::uint64_t> items;
    };
    std::array<std::uint64_t, queues> taken{};
    std::array<locked_queue, queues> all;
    for (auto& q : all)
        q.items.resize(items_each);
    std::uint32_t random = 1;
    meter.measure([&] {
        for (auto left = meter.rounds(); left > 0; --left) {
            random = random * 1664525 + 1013904223;
            for (std::size_t i = 0; i < queues; ++i) {
                const std::size_t at = ((random >> 30) + i) % queues;
                std::uint64_t item = 0;
                {
                    const std::lock_guard hold{all[at].mutex};
                    if (all[at].items.empty())
                        continue;
                    item = all[at].items.front();
                    all[at].items.pop_front();
                }
                ++taken[at];
                const std::lock_guard hold{all[at].mutex};
                all[at].items.push_back(item);
                break;
            }
        }
    });
    check(taken, meter.rounds());
}

micro make() {
    const micro_case ready{"ready:4", 1};
    micro result{"select"};
    result.add("creel", contender, ready, creel_ready);
    result.add("std_mutex", control, ready, locked_ready);
    return result;
}

const registration times{[] { return make().family(); }};
const registration instructions{[] { return make().instruction_family(); }};

} // namespace
} // namespace creel::bench
