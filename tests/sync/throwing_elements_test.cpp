// Elements whose moves, copies and comparisons throw: whichever party gets the error, no item is
// lost and none is there twice. And elements that cannot be assigned.
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/stack_queue.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/settle.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/sync/select.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

struct failure : std::runtime_error {
    failure() : std::runtime_error("a move failed") {}
};

// The move that is so many moves ahead throws; at zero and below, none does.
int fuse = 0;

void count_move() {
    if (fuse > 0 && --fuse == 0)
        throw failure{};
}

// An element that was moved from has no value.
template <void (*Move)()>
struct element {
    explicit element(int v) noexcept : value(v) {}
    element(element&& other) { take(other); }
    element& operator=(element&& other) {
        take(other);
        return *this;
    }
    ~element() = default;
    friend bool operator<(const element& a, const element& b) { return a.value < b.value; }

    int value = 0;
    bool is_stuck = false; // each move of this element throws

private:
    void take(element& other) {
        Move();
        if (other.is_stuck)
            throw failure{};
        value = std::exchange(other.value, 0);
    }
};
using fragile = element<&count_move>;

// Tries again until it does not throw.
template <typename F>
auto persist(F f) {
    for (;;) {
        try {
            return f();
        } catch (const failure&) {
        }
    }
}

// Pushes an element, which has a value before. It has none after the push, or still has its value
// if the push was refused.
template <typename Queue>
bool persist_in_push(Queue& q, int value) {
    fragile item{value};
    const bool in = persist([&] {
        CHECK(item.value == value); // also after a failed attempt
        return q.push(std::move(item));
    });
    CHECK(item.value == (in ? 0 : value));
    return in;
}

template <typename Queue>
bool persist_in_try_push(Queue& q, int value) {
    fragile item{value};
    const bool in = persist([&] {
        CHECK(item.value == value);
        return q.try_push(std::move(item));
    });
    CHECK(item.value == (in ? 0 : value));
    return in;
}

std::vector<fragile> room(std::size_t count) {
    std::vector<fragile> items;
    items.reserve(count);
    for (std::size_t i = 0; i < count; ++i)
        items.emplace_back(0);
    return items;
}

// Runs a script again and again; each time a later move throws, until none does.
template <typename Script>
void for_each_failing_move(Script script) {
    int nth = 1;
    for (bool failed = true; failed; ++nth) {
        CAPTURE(nth);
        fuse = nth;
        script();
        failed = fuse == 0;
        fuse = 0;
        REQUIRE(nth < 1000);
    }
    CHECK(nth > 5); // it does move
}

} // namespace

#define EVERY_QUEUE queue<fragile>, priority_queue<fragile>, stack_queue<fragile>

TEMPLATE_TEST_CASE("whichever move fails a queue of one fiber loses and doubles nothing", "[queue]",
                   EVERY_QUEUE) {
    const std::size_t capacity = GENERATE(1U, 3U);
    run_virtually([&] {
        for_each_failing_move([&] {
            TestType q{capacity};
            std::vector<int> in;
            std::vector<int> out;
            const auto take = [&](std::optional<fragile> item) {
                if (item)
                    out.push_back(item->value);
                return item.has_value();
            };
            for (int round = 0; round < 2; ++round) {
                for (int value = round * 10 + 1; q.size() < capacity; ++value) {
                    CHECK(persist_in_push(q, value));
                    in.push_back(value);
                }
                CHECK(!persist_in_try_push(q, 99));
                CHECK(take(persist([&] { return q.try_pop(); })));
                CHECK(persist_in_try_push(q, round * 10 + 9));
                in.push_back(round * 10 + 9);
                CHECK(take(persist([&] { return q.pop(); })));
                auto some = room(2);
                if (!q.empty()) {
                    const std::size_t count = persist([&] { return q.pop_some(some); });
                    for (const fragile& item : std::span{some}.first(count))
                        out.push_back(item.value);
                }
            }
            while (take(persist([&] { return q.try_pop(); }))) {
            }
            CHECK(q.statistics().pushed == in.size());
            CHECK(std::is_permutation(in.begin(), in.end(), out.begin(), out.end()));
        });
    });
}

TEMPLATE_TEST_CASE(
    "whichever move fails between fibers that wait a queue loses and doubles nothing", "[queue]",
    EVERY_QUEUE) {
    const std::size_t capacity = GENERATE(0U, 1U, 3U);
    run_virtually([&] {
        for_each_failing_move([&] {
            TestType q{capacity};
            std::vector<int> out;
            creel::with_nursery([&](creel::nursery& n) {
                for (int i = 0; i < 2; ++i)
                    n.spawn([&] {
                        while (const auto item = persist([&] { return q.pop(); }))
                            out.push_back(item->value);
                    });
                settle();
                for (int value = 1; value <= 3; ++value)
                    CHECK(persist_in_push(q, value)); // to poppers that wait
                settle();
                q.close();
            });
            TestType full{capacity};
            creel::with_nursery([&](creel::nursery& n) {
                for (int value = 4; value <= 8; ++value)
                    n.spawn([&, value] { CHECK(persist_in_push(full, value)); });
                settle();
                for (int i = 0; i < 5; ++i) // lets in pushers that wait
                    out.push_back(persist([&] { return full.pop(); }).value().value);
            });
            std::vector<int> in(8);
            std::iota(in.begin(), in.end(), 1);
            CHECK(q.statistics().pushed == 3);
            CHECK(full.statistics().pushed == 5);
            CHECK(std::is_permutation(in.begin(), in.end(), out.begin(), out.end()));
        });
    });
}

TEMPLATE_TEST_CASE("an assignment into a waiting pop_some that fails is thrown by the push",
                   "[queue]", EVERY_QUEUE) {
    const std::size_t capacity = GENERATE(0U, 1U);
    std::vector<int> got;
    const auto left = run_virtually([&] {
        TestType q{capacity};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    auto some = room(2);
                    if (q.pop_some(some) == 1)
                        got.push_back(some[0].value);
                    CHECK(some[1].value == 0);
                });
            settle();
            fragile item{1};
            for (int attempt = 0; attempt < 2; ++attempt) {
                fuse = 1;
                CHECK_THROWS_AS(q.push(std::move(item)), failure);
                fuse = 1;
                CHECK_THROWS_AS(q.try_push(std::move(item)), failure);
                CHECK(item.value == 1);
                CHECK(q.statistics().poppers == 2); // no popper has learnt of it
            }
            CHECK(q.push(std::move(item)));
            CHECK(q.push(fragile{2}));
        });
        CHECK(q.statistics().pushed == 2);
    });
    CHECK(got == std::vector{1, 2});
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("an item that fails to move out of a queue is thrown by the pop and stays first",
                   "[queue]", queue<fragile>, priority_queue<fragile>) {
    run_virtually([] {
        TestType q{2};
        CHECK(q.push(fragile{1}));
        CHECK(q.push(fragile{2}));
        auto some = room(2);
        fuse = 1;
        CHECK_THROWS_AS(q.pop(), failure);
        fuse = 1;
        CHECK_THROWS_AS(q.try_pop(), failure);
        fuse = 1;
        CHECK_THROWS_AS(q.pop_some(some), failure);
        fuse = 2;
        CHECK(q.pop_some(some) == 1); // it keeps the items it has
        CHECK(some[0].value == 1);
        fuse = 0;
        CHECK(q.size() == 1);
        CHECK(q.pop()->value == 2);
    });
}

TEMPLATE_TEST_CASE("a copy that fails leaves the queue and the original as they were", "[queue]",
                   (std::integral_constant<int, 1>), (std::integral_constant<int, 3>)) {
    static bool armed = false;
    struct copied {
        explicit copied(int v) : value(v) {}
        copied(const copied& other) : value(other.value) {
            if (armed)
                throw failure{};
        }
        copied(copied&& other) noexcept : value(std::exchange(other.value, 0)) {}
        copied& operator=(const copied&) = default;
        copied& operator=(copied&&) = default;
        ~copied() = default;
        int value;
    };
    run_virtually([] {
        queue<copied> q{TestType::value};
        const copied original{5};
        armed = true;
        CHECK_THROWS_AS(q.push(original), failure);
        CHECK_THROWS_AS(q.try_push(original), failure);
        CHECK(q.empty());
        armed = false;
        CHECK(q.push(original));
        CHECK(original.value == 5);
        CHECK(q.pop()->value == 5);
    });
}

TEST_CASE("a comparison that fails as a waiting pusher comes in is thrown by its push alone",
          "[queue]") {
    struct picky {
        bool operator()(int a, int b) const {
            if (a == 99 || b == 99)
                throw failure{};
            return a < b;
        }
    };
    std::vector<int> out;
    bool told = false;
    const auto left = run_virtually([&] {
        priority_queue<int, picky> q{3};
        for (int i : {1, 2, 3})
            CHECK(q.push(i));
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                try {
                    static_cast<void>(q.push(99));
                } catch (const failure&) {
                    told = true;
                }
            });
            n.spawn([&] { CHECK(q.push(4)); });
            settle();
            CHECK(q.statistics().pushers == 2);
            out.push_back(q.pop().value()); // its room goes to the item that can be compared
            settle();
            CHECK(told);
            CHECK(q.statistics().pushers == 0);
        });
        while (const auto item = q.try_pop())
            out.push_back(*item);
        CHECK(q.statistics().pushed == 4);
    });
    CHECK(out == std::vector{1, 2, 3, 4});
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a move that throws leaves the item where it was", "[queue]", EVERY_QUEUE) {
    const auto left = run_virtually([] {
        TestType q{1};
        fragile item{1};
        fuse = 1;
        CHECK_THROWS_AS(q.push(std::move(item)), failure);
        CHECK(item.value == 1);
        CHECK(q.empty());
        CHECK(q.push(std::move(item)));
        fuse = 1;
        CHECK_THROWS_AS(q.pop(), failure);
        auto some = room(1);
        fuse = 1;
        CHECK_THROWS_AS(q.pop_some(some), failure);
        CHECK(q.size() == 1);
        CHECK(q.pop()->value == 1);

        creel::with_nursery([&](creel::nursery& n) { // to a popper that waits
            n.spawn([&] { CHECK(q.pop()->value == 2); });
            settle();
            fragile two{2};
            fuse = 1;
            CHECK_THROWS_AS(q.push(std::move(two)), failure);
            CHECK(q.statistics().poppers == 1);
            CHECK(q.push(std::move(two)));
        });
        CHECK(q.statistics().unfinished == 2);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("an error of moving a waiting pusher's item is thrown by its push", "[queue]",
                   EVERY_QUEUE) {
    const auto left = run_virtually([] {
        TestType q{1};
        CHECK(q.push(fragile{1}));
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                fragile two{2};
                two.is_stuck = true;
                CHECK_THROWS_AS(q.push(std::move(two)), failure);
                CHECK(two.value == 2);
            });
            n.spawn([&] { CHECK(q.push(fragile{3})); });
            settle();
            CHECK(q.pop()->value == 1); // lets in the next pusher with an item that can be moved
            CHECK(q.pop()->value == 3);
        });
        CHECK(q.statistics().pushed == 2);
    });
    CHECK(left == nothing);
}

TEST_CASE("a pusher with an item that cannot be moved is in no other's way at a rendezvous",
          "[queue]") {
    const auto left = run_virtually([] {
        queue<fragile> q{0};
        int got = 0;
        const auto push_bad = [&] {
            fragile bad{1};
            bad.is_stuck = true;
            CHECK_THROWS_AS(q.push(std::move(bad)), failure);
        };
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn(push_bad);
            n.spawn([&] { CHECK(q.push(fragile{2})); });
            settle();
            CHECK(q.pop()->value == 2);
            CHECK(q.statistics().pushers == 0);

            n.spawn(push_bad); // alone: the popper waits for the next
            settle();
            n.spawn([&] { got = q.pop()->value; });
            settle();
            CHECK(q.statistics().pushers == 0);
            CHECK(q.push(fragile{3}));
            settle();
            CHECK(got == 3);

            n.spawn(push_bad);
            settle();
            CHECK(!q.try_pop());
            n.spawn(push_bad);
            settle();
            n.spawn([&] {
                fragile into{0};
                CHECK(q.pop_some({&into, 1}) == 1);
                got = into.value;
            });
            settle();
            CHECK(q.push(fragile{4}));
        });
        CHECK(got == 4);
        CHECK(q.statistics().pushed == 3);
    });
    CHECK(left == nothing);
}

TEST_CASE("a comparison that throws changes nothing in a priority_queue", "[queue]") {
    static bool armed = false;
    struct picky {
        bool operator()(int a, int b) const {
            if (armed)
                throw failure{};
            return a < b;
        }
    };
    run_virtually([] {
        priority_queue<int, picky> q{8};
        for (int i : {5, 3, 4, 1, 2})
            CHECK(q.push(i));
        armed = true;
        CHECK_THROWS_AS(q.push(0), failure);
        CHECK_THROWS_AS(q.pop(), failure);
        armed = false;
        for (int i : {1, 2, 3, 4, 5})
            CHECK(*q.pop() == i);
    });
}

TEST_CASE("a move that throws sends a waiting select back to wait") {
    int got = 0;
    const auto left = run_virtually([&] {
        queue<fragile> q{1};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                select(on_pop(q, [&](std::optional<fragile> f) { got = f->value; }),
                       on_timer(1h, [&] { got = -1; }));
            });
            settle();
            fragile bad{1};
            bad.is_stuck = true;
            CHECK_THROWS_AS(q.push(std::move(bad)), failure);
            settle();
            CHECK(got == 0);
            CHECK(q.push(fragile{2}));
        });
        CHECK(got == 2);

        CHECK(q.push(fragile{3})); // the other way: the error comes from the select's own item
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                fragile bad{4};
                bad.is_stuck = true;
                CHECK_THROWS_AS(select(on_push(q, bad, [](bool) {})), failure);
            });
            settle();
            CHECK(q.pop()->value == 3);
        });
        CHECK(q.empty());
    });
    CHECK(left == nothing);
}

namespace {

struct unassignable {
    explicit unassignable(int v) noexcept : value(v) {}
    unassignable(unassignable&&) = default;
    unassignable& operator=(unassignable&&) = delete;
    ~unassignable() = default;
    int value;
};

} // namespace

TEMPLATE_TEST_CASE("a queue and a select need no assignment of an item", "[queue]",
                   queue<unassignable>, stack_queue<unassignable>) {
    const auto left = run_virtually([] {
        TestType q{1};
        CHECK(q.push(unassignable{1}));
        CHECK(q.pop()->value == 1);
        CHECK(q.try_push(unassignable{2}));
        CHECK(q.try_pop()->value == 2);

        bool pushed = false;
        int got = 0;
        const auto take = [&](std::optional<unassignable> item) { got = item->value; };
        unassignable three{3};
        select(on_push(q, three, [&](bool in) { pushed = in; }));
        CHECK(pushed);
        select(on_pop(q, take));
        CHECK(got == 3);

        creel::with_nursery([&](creel::nursery& n) { // to a select that waits
            n.spawn([&] { select(on_pop(q, take), on_timer(1h, [&] { got = -1; })); });
            settle();
            CHECK(q.push(unassignable{4}));
        });
        CHECK(got == 4);

        creel::with_nursery([&](creel::nursery& n) { // from a push and a select that wait
            CHECK(q.push(unassignable{5}));
            n.spawn([&] { CHECK(q.push(unassignable{6})); });
            settle();
            n.spawn([&] {
                unassignable seven{7};
                select(on_push(q, seven, [&](bool in) { pushed = in; }));
            });
            pushed = false;
            settle();
            CHECK(!pushed);
            for (const int value : {5, 6, 7})
                CHECK(q.pop()->value == value);
        });
        CHECK(pushed);
    });
    CHECK(left == nothing);
}

namespace {

std::atomic<unsigned> moves{0};

void fail_now_and_then() {
    if (moves.fetch_add(1, std::memory_order_relaxed) % 5 == 4)
        throw failure{};
}
using unreliable = element<&fail_now_and_then>;

constexpr unsigned values_each = 4'000;

// Pushes its own values, a few and then as many as there is time for. Returns their number.
template <typename Queue>
unsigned produce(Queue& q, const crowd_member& me, unsigned first_value) {
    unsigned pushed = 0;
    for (; me.goes_on(pushed, values_each); ++pushed) {
        unreliable item{static_cast<int>(first_value + pushed)};
        static_cast<void>(persist([&] { return q.push(std::move(item)); }));
    }
    return pushed;
}

template <typename Queue>
void consume(Queue& q, std::vector<std::atomic<int>>& seen) {
    while (const auto item = persist([&] { return q.pop(); }))
        ++seen[static_cast<std::size_t>(item->value)];
}

} // namespace

TEMPLATE_TEST_CASE("stress: moves that fail now and then between threads lose and double nothing",
                   "[queue][stress]", queue<unreliable>, priority_queue<unreliable>,
                   stack_queue<unreliable>) {
    const std::size_t capacity = GENERATE(0U, 1U, 8U);
    CAPTURE(capacity);
    // Every second party produces: on each scheduler a fiber, and two plain threads.
    const crowd_options who{
        .fibers_each = 2, .plain_threads = 4, .virtual_time = true, .time = 600ms};
    const unsigned producers = members_of(who) / 2;
    TestType q{capacity};
    std::vector<std::atomic<int>> seen(producers * values_each);
    std::vector<unsigned> pushed(producers, 0);
    std::atomic<unsigned> busy{producers};
    run_crowd("throwing elements stress", who, [&](crowd_member& me) {
        if (me.number % 2 != 0) {
            consume(q, seen);
            return;
        }
        const unsigned producer = me.number / 2;
        pushed[producer] = produce(q, me, producer * values_each);
        if (--busy == 0)
            q.close();
    });
    CHECK(std::accumulate(pushed.begin(), pushed.end(), 0U) > 0);
    bool each_once = true;
    for (unsigned i = 0; i < seen.size(); ++i)
        each_once = each_once && seen[i] == (i % values_each < pushed[i / values_each] ? 1 : 0);
    CHECK(each_once);
    CHECK(q.empty());
}
