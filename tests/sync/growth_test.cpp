// Large queues, broadcasts and pools take memory as they fill, in parts that stay where they are.
// At every border between parts the order is kept, and when there is no memory for another part
// nothing is lost.
#include <creel/sync/broadcast.hpp>
#include <creel/sync/pool.hpp>
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/select.hpp>
#include <creel/sync/stack_queue.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/malloc_count.hpp"
#include "support/seed.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace creel::test;
using namespace creel::sync;

namespace {

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

// So large that each part of a queue's memory has room for a few only; and it owns something.
struct fat {
    explicit fat(int k = 0, int n = 0) : key(k), number(std::make_unique<int>(n)) {}
    int key;
    std::unique_ptr<int> number;
    std::array<char, 2000> filling{};

    friend bool operator<(const fat& a, const fat& b) { return a.key < b.key; }
};

// The item that a queue gives next.
struct first_in {
    static std::size_t next(const std::deque<std::pair<int, int>>&) { return 0; }
};
struct last_in {
    static std::size_t next(const std::deque<std::pair<int, int>>& all) { return all.size() - 1; }
};
struct least {
    static std::size_t next(const std::deque<std::pair<int, int>>& all) {
        const auto smaller = [](const auto& a, const auto& b) { return a.first < b.first; };
        return static_cast<std::size_t>(std::min_element(all.begin(), all.end(), smaller) -
                                        all.begin());
    }
};

// Pushes and pops at random, and compares each result with a model. Returns how many differ.
template <typename Queue, typename Order>
int differences(std::size_t capacity, std::minstd_rand& random) {
    Queue q{capacity};
    std::deque<std::pair<int, int>> model;
    int wrong = 0;
    int number = 0;
    for (int phase = 0; phase < 8; ++phase) { // it tends to fill, then to drain
        const unsigned pushes_of_8 = phase % 2 == 0 ? 6 : 2;
        for (int i = 0; i < 60; ++i) {
            if (random() % 8 < pushes_of_8) {
                const int key = static_cast<int>(random() % 10);
                const bool pushed = q.try_push(fat{key, number});
                wrong += pushed != (model.size() < capacity) ? 1 : 0;
                if (pushed)
                    model.emplace_back(key, number);
                ++number;
            } else {
                const std::optional<fat> item = q.try_pop();
                wrong += item.has_value() == model.empty() ? 1 : 0;
                if (!item || model.empty())
                    continue;
                wrong += *item->number != model[Order::next(model)].second ? 1 : 0;
                model.erase(model.begin() + static_cast<std::ptrdiff_t>(Order::next(model)));
            }
        }
    }
    wrong += q.size() != model.size() ? 1 : 0; // the items that are left end with the queue
    return wrong;
}

template <typename Queue, typename Order>
void check_order() {
    std::minstd_rand random{printed_seed("growth")};
    constexpr std::array<std::size_t, 13> capacities{1, 2, 3, 4, 5, 7, 8, 9, 10, 16, 17, 33, 100};
    for (const std::size_t capacity : capacities)
        CHECK(differences<Queue, Order>(capacity, random) == 0);
    CHECK(differences<Queue, Order>(no_limit, random) == 0);
}

// At each growth there is first no memory. Returns the number of pushes that threw.
template <typename Queue>
int fill_without_memory(Queue& q, int items) {
    int failed = 0;
    for (int i = 0; i < items; ++i) {
        fat item{i, i};
        try {
            const no_memory any;
            static_cast<void>(q.try_push(std::move(item)));
        } catch (const std::bad_alloc&) {
            ++failed;
            static_cast<void>(q.try_push(std::move(item))); // it is unchanged
        }
    }
    return failed;
}

template <typename Queue>
std::vector<int> drained(Queue& q) {
    std::vector<int> all;
    while (const auto item = q.try_pop())
        all.push_back(*item->number);
    return all;
}

template <typename Queue>
void check_without_memory(bool reversed) {
    constexpr int items = 50;
    Queue q{no_limit};
    const int failed = fill_without_memory(q, items);
    CHECK(q.size() == items);
    std::vector<int> all = drained(q);
    if (reversed)
        std::reverse(all.begin(), all.end());
    std::vector<int> expected(items);
    for (int i = 0; i < items; ++i)
        expected[static_cast<std::size_t>(i)] = i;
    CHECK(all == expected);
    CHECK((failed > 0) == counts_malloc);
    CHECK(fill_without_memory(q, items) == 0); // there is room now
}

template <typename Queue>
std::uint64_t mallocs_when_warm() {
    Queue q{std::size_t{100}};
    std::vector<std::optional<fat>> spare(100);
    for (auto& s : spare)
        s.emplace();
    const auto cycle = [&](std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            static_cast<void>(q.try_push(std::move(*spare[i])));
        for (std::size_t i = 0; i < count; ++i)
            spare[i] = q.try_pop();
    };
    cycle(100);
    const std::uint64_t before = malloc_calls();
    for (const int count : {1, 3, 100, 50, 100})
        cycle(static_cast<std::size_t>(count));
    return malloc_calls() - before;
}

} // namespace

TEST_CASE("a queue keeps its order wherever its memory grows") {
    check_order<queue<fat>, first_in>();
    check_order<stack_queue<fat>, last_in>();
    check_order<priority_queue<fat>, least>();
}

TEST_CASE("a queue that must grow without memory throws bad_alloc and loses no item") {
    check_without_memory<queue<fat>>(false);
    check_without_memory<stack_queue<fat>>(true);
    check_without_memory<priority_queue<fat>>(false);
}

TEST_CASE("a queue that has grown allocates no more") {
    CHECK(mallocs_when_warm<queue<fat>>() == 0);
    CHECK(mallocs_when_warm<stack_queue<fat>>() == 0);
    CHECK(mallocs_when_warm<priority_queue<fat>>() == 0);
}

TEST_CASE("a queue of few small items allocates nothing after its construction") {
    const auto pushes = [](auto&& q) {
        const std::uint64_t before = malloc_calls();
        for (int i = 0; i < 250; ++i)
            static_cast<void>(q.try_push(i));
        return malloc_calls() - before;
    };
    CHECK(pushes(queue<int>{250}) == 0);
    CHECK(pushes(stack_queue<int>{250}) == 0);
    CHECK(pushes(priority_queue<int>{250}) == 0);
}

TEST_CASE("a select that pushes lets the queue grow, and has pushed nothing without memory") {
    constexpr int items = 30;
    int pushed = 0;
    int failed = 0;
    queue<fat> q{no_limit};
    const auto left = run_virtually([&] {
        for (int i = 0; i < items; ++i) {
            fat item{i, i};
            const auto push = [&] {
                select(on_push(q, item, [&](bool in) { pushed += in ? 1 : 0; }));
            };
            try {
                const no_memory any;
                push();
            } catch (const std::bad_alloc&) {
                ++failed;
                push();
            }
        }
    });
    CHECK(pushed == items);
    CHECK((failed > 0) == counts_malloc);
    const std::vector<int> all = drained(q);
    CHECK(std::is_sorted(all.begin(), all.end()));
    CHECK(all.size() == items);
    CHECK(left == nothing);
}

TEST_CASE("close(discard) of a queue that has grown drops all and refuses more") {
    queue<fat> q{no_limit};
    CHECK(fill_without_memory(q, 40) >= 0);
    CHECK(q.close(discard) == 40);
    const bool pushed = q.try_push(fat{});
    CHECK(!pushed);
    CHECK(q.capacity() == no_limit);
}

TEST_CASE("a broadcast takes memory as values come, and one that it has none for is not sent") {
    constexpr int values = 100;
    broadcast<int> all{no_limit};
    broadcast<int> few{7}; // its memory ends within a part
    auto every = all.subscribe();
    auto last = few.subscribe();
    int failed = 0;
    for (int i = 0; i < values; ++i) {
        try {
            const no_memory any;
            static_cast<void>(all.send(i));
        } catch (const std::bad_alloc&) {
            ++failed;
            static_cast<void>(all.send(i));
        }
        static_cast<void>(few.send(i));
    }
    CHECK((failed > 0) == counts_malloc);
    int right = 0;
    for (int i = 0; i < values; ++i)
        right += every.receive() == i ? 1 : 0;
    CHECK(right == values);
    CHECK_THROWS_AS(last.receive(), lagged);
    right = 0;
    for (int i = values - 7; i < values; ++i)
        right += last.receive() == i ? 1 : 0;
    CHECK(right == 7);
}

TEST_CASE("a pool takes memory as things are made, and makes none that it has no place for") {
    struct thing {
        int number;
        std::array<char, 2000> filling{};
    };
    constexpr int things = 20;
    int made = 0;
    int failed = 0;
    int made_in_vain = 0;
    int disposed = 0;
    {
        pool<thing> p{{.limit = no_limit,
                       .create = [&] { return thing{made++}; },
                       .dispose = [&](thing&&) { ++disposed; }}};
        std::vector<pool<thing>::lease> leases;
        leases.reserve(things);
        for (int i = 0; i < things; ++i) {
            const int before = made;
            try {
                const no_memory any;
                leases.push_back(p.acquire());
            } catch (const std::bad_alloc&) {
                ++failed;
                made_in_vain += made - before;
                leases.push_back(p.acquire());
            }
        }
        CHECK((failed > 0) == counts_malloc);
        CHECK(made_in_vain == 0);
        CHECK(p.statistics().in_use == things);
        leases.front().discard();
        leases.clear();
        CHECK(p.statistics().idle == things - 1);
        CHECK(disposed == 1);
        const auto again = p.acquire();
        CHECK(made == things);
    }
    CHECK(disposed == things);
}

TEST_CASE("stress: threads that push into a growing queue lose nothing", "[stress]") {
    constexpr int producers = 3;
    constexpr int each = 300;
    queue<fat> q{no_limit};
    std::atomic<int> at_start{0};
    std::vector<std::thread> all;
    for (int p = 0; p < producers; ++p)
        all.emplace_back([&, p] {
            for (++at_start; at_start < producers;)
                std::this_thread::yield();
            for (int i = 0; i < each; ++i)
                static_cast<void>(q.push(fat{p, i}));
        });
    std::array<int, producers> next{};
    int right = 0;
    for (int i = 0; i < producers * each; ++i)
        if (const auto item = q.pop())
            right += *item->number == next[static_cast<std::size_t>(item->key)]++ ? 1 : 0;
    for (std::thread& t : all)
        t.join();
    CHECK(right == producers * each);
}
