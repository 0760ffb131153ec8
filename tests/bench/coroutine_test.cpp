// The coroutine runtime with which creel is compared keeps its promises.
#include "../../bench/same_job/coroutine/group.hpp"
#include "../../bench/same_job/coroutine/queue.hpp"
#include "../../bench/same_job/coroutine/rate_limiter.hpp"
#include "../../bench/same_job/coroutine/serve.hpp"
#include "../../bench/same_job/coroutine/signal.hpp"
#include "../../bench/same_job/coroutine/sleep.hpp"
#include "../../bench/same_job/coroutine/stream.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

namespace {

using namespace same_job::coroutine;
using namespace std::chrono_literals;

task<int> five() {
    co_return 5;
}

task<std::unique_ptr<int>> movable() {
    co_return std::make_unique<int>(7);
}

task<> fail() {
    co_await sleep_for(0ms);
    throw std::runtime_error("planted");
}

task<> wait_for_ever(bool& cancelled) {
    queue<int> nothing{1};
    try {
        static_cast<void>(co_await nothing.pop());
    } catch (const operation_cancelled&) {
        cancelled = true;
        throw;
    }
}

// What the body throws; empty if it returns.
template <class Error>
task<bool> throws(task<> body) {
    try {
        co_await std::move(body);
    } catch (const Error&) {
        co_return true;
    }
    co_return false;
}

TEST_CASE("a task gives its value and its error to the coroutine that awaits it") {
    CHECK(run(five()) == 5);
    CHECK(*run(movable()) == 7);
    CHECK_THROWS_AS(run(fail()), std::runtime_error);
    CHECK(run(throws<std::runtime_error>(fail())));
}

TEST_CASE("the first error of a group cancels the others and is thrown") {
    bool sibling = false;
    bool body = false;
    CHECK_THROWS_AS(run(with_group([&](group& g) -> task<> {
                        g.spawn(wait_for_ever(sibling));
                        g.spawn(fail());
                        co_await wait_for_ever(body);
                    })),
                    std::runtime_error);
    CHECK(sibling);
    CHECK(body);
}

TEST_CASE("an error stays alone where the group says so") {
    int ended = 0;
    run(with_group(errors::stay_alone, [&](group& g) -> task<> {
        g.spawn(fail());
        g.spawn([](int& count) -> task<> {
            co_await sleep_for(1ms);
            ++count;
        }(ended));
        co_return;
    }));
    CHECK(ended == 1);
}

TEST_CASE("a group that is cancelled on purpose throws nothing") {
    bool cancelled = false;
    run(with_group([&](group& g) -> task<> {
        g.spawn(wait_for_ever(cancelled));
        g.cancel();
        co_return;
    }));
    CHECK(cancelled);
}

TEST_CASE("a timeout cancels what it bounds, and throws timed_out") {
    bool cancelled = false;
    CHECK_THROWS_AS(
        run([](bool& seen) -> task<> { co_await timeout(1ms, wait_for_ever(seen)); }(cancelled)),
        timed_out);
    CHECK(cancelled);
    const auto in_time = []() -> task<int> { co_return co_await timeout(1h, five()); };
    CHECK(run(in_time()) == 5);
}

TEST_CASE("of two timeouts the inner one ends its own work alone") {
    bool cancelled = false;
    const auto nested = [](bool& seen) -> task<int> {
        co_return co_await timeout(1h, [](bool& inner) -> task<int> {
            if (!co_await throws<timed_out>(
                    [](bool& s) -> task<> { co_await timeout(1ms, wait_for_ever(s)); }(inner)))
                co_return 0;
            co_await sleep_for(0ms); // the outer scope is not cancelled
            co_return co_await five();
        }(seen));
    };
    CHECK(run(nested(cancelled)) == 5);
    CHECK(cancelled);
}

TEST_CASE("a cancelled scope refuses further waits") {
    const auto waits = []() -> task<bool> {
        cancel_scope scope{co_await this_scope{}};
        scope.cancel();
        const auto sleeps = []() -> task<> { co_await sleep_for(0ms); };
        co_return co_await throws<operation_cancelled>(
            [](cancel_scope& s, auto sleep) -> task<> { co_await sleep().in(s); }(scope, sleeps));
    };
    CHECK(run(waits()));
}

TEST_CASE("a queue keeps its order and its bound, and gives what is left after close") {
    const std::size_t places = GENERATE(std::size_t{0}, std::size_t{1}, std::size_t{3});
    queue<std::string> items{places};
    std::vector<std::string> seen;
    std::size_t most = 0;
    int refused = 0;
    run(with_group([&](group& g) -> task<> {
        g.spawn([](auto& from, auto& to) -> task<> {
            while (auto item = co_await from.pop())
                to.push_back(std::move(*item));
        }(items, seen));
        for (int i = 0; i < 100; ++i) {
            refused += !co_await items.push(std::to_string(i));
            most = std::max(most, items.size());
        }
        items.close();
        refused += !co_await items.push("late");
    }));
    CHECK(refused == 1); // the late one
    REQUIRE(seen.size() == 100);
    for (int i = 0; i < 100; ++i)
        CHECK(seen[static_cast<std::size_t>(i)] == std::to_string(i));
    CHECK(most <= places);
}

TEST_CASE("a cancelled push leaves nothing in the queue, and a cancelled pop takes nothing") {
    queue<int> items{1};
    const auto pushes = [](queue<int>& to, int item) -> task<> {
        static_cast<void>(co_await to.push(int{item}));
    };
    const auto pops = [](queue<int>& from) -> task<> { static_cast<void>(co_await from.pop()); };
    const auto in_time = [](task<> wait) -> task<> { co_await timeout(1ms, std::move(wait)); };
    run([&]() -> task<> {
        const bool pushed = co_await items.push(1);
        CHECK(pushed);
        const bool push_ended = co_await throws<timed_out>(in_time(pushes(items, 2)));
        CHECK(push_ended);
        CHECK(items.try_pop() == std::optional{1});
        CHECK(items.try_pop() == std::nullopt);
        const bool pop_ended = co_await throws<timed_out>(in_time(pops(items)));
        CHECK(pop_ended);
        CHECK(items.try_push(3));
        CHECK(items.try_pop() == std::optional{3});
    }());
}

TEST_CASE("timers fire in the order of their times, however they were armed and disarmed") {
    struct fake : timer {
        explicit fake(int& n) noexcept : timer(&fire), count(n) {}
        static void fire(timer& t) noexcept {
            auto& self = static_cast<fake&>(t);
            self.fired = ++self.count;
        }
        int& count;
        int fired = 0;
        clock::time_point when{};
    };
    int count = 0;
    std::minstd_rand random{17};
    std::vector<std::unique_ptr<fake>> all;
    timer_heap heap;
    for (int i = 0; i < 1000; ++i) {
        auto& t = *all.emplace_back(std::make_unique<fake>(count));
        t.when = clock::time_point{clock::duration{random() % 500}};
        heap.arm(t, t.when);
    }
    std::shuffle(all.begin(), all.end(), random);
    for (std::size_t i = 0; i < 300; ++i)
        heap.disarm(*all[i]);
    CHECK(heap.first() >= clock::time_point{});
    heap.fire(clock::time_point{clock::duration{500}});
    CHECK(heap.empty());
    for (std::size_t i = 0; i < 300; ++i)
        CHECK(all[i]->fired == 0);
    all.erase(all.begin(), all.begin() + 300);
    std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a->fired < b->fired; });
    CHECK(all.front()->fired == 1);
    CHECK(
        std::is_sorted(all.begin(), all.end(), [](auto& a, auto& b) { return a->when < b->when; }));
}

TEST_CASE("a rate limiter lets its burst through and then keeps its rate") {
    const auto began = clock::now();
    run([]() -> task<> {
        rate_limiter limit{1000, 4};
        for (int i = 0; i < 14; ++i)
            co_await limit.acquire();
    }());
    CHECK(clock::now() - began >= 10ms);
}

TEST_CASE("a receive that is cancelled again and again loses no byte, single and multishot") {
    run([]() -> task<> {
        const listener from;
        co_await with_group([&](group& g) -> task<> {
            g.spawn(serve(from, [](stream peer) -> task<> {
                std::array<std::byte, 256> buffer;
                while (const std::size_t n = co_await peer.recv(buffer))
                    co_await peer.send_all(std::span{buffer}.first(n));
            }));
            const stream peer = co_await stream::connect(from.port());
            std::array<std::byte, 100> message{};
            std::array<std::byte, 100> reply{};
            for (std::uint8_t i = 0; i < 200; ++i) { // the ninth receive is a multishot one
                message.fill(std::byte{i});
                co_await peer.send_all(message);
                for (std::size_t got = 0; got < reply.size();) {
                    const auto some = [](const stream& p,
                                         std::span<std::byte> room) -> task<std::size_t> {
                        co_return co_await p.recv(room);
                    };
                    try {
                        got += co_await timeout(5us, some(peer, std::span{reply}.subspan(got)));
                    } catch (const timed_out&) {
                    }
                }
                CHECK(reply == message);
            }
            g.cancel();
        });
    }());
}

TEST_CASE("a peer that floods gets all its bytes back, and its end") {
    run([]() -> task<> {
        const listener from;
        co_await with_group([&](group& g) -> task<> {
            g.spawn(serve(from, [](stream peer) -> task<> {
                std::array<std::byte, 16384> buffer;
                while (const std::size_t n = co_await peer.recv(buffer))
                    co_await peer.send_all(std::span{buffer}.first(n));
            }));
            stream peer = co_await stream::connect(from.port());
            constexpr std::size_t total = 2'000'000;
            g.spawn([](const stream& to) -> task<> {
                std::minstd_rand random{5};
                std::vector<std::byte> bytes(5000);
                for (std::size_t sent = 0; sent < total;) { // many short ones, then longer ones
                    const auto n = std::min<std::size_t>(
                        sent < 50'000 ? 10 : 1 + random() % bytes.size(), total - sent);
                    for (std::size_t i = 0; i < n; ++i)
                        bytes[i] = static_cast<std::byte>((sent + i) % 251);
                    co_await to.send_all(std::span{bytes}.first(n));
                    sent += n;
                }
            }(peer));
            std::vector<std::byte> buffer(3000);
            std::size_t wrong = 0;
            for (std::size_t got = 0; got < total;) {
                const std::size_t n = co_await peer.recv(buffer);
                REQUIRE(n > 0);
                for (std::size_t i = 0; i < n; ++i)
                    wrong += buffer[i] != static_cast<std::byte>((got + i) % 251);
                got += n;
            }
            CHECK(wrong == 0);
            g.cancel();
        });
    }());
}

TEST_CASE("a refused connect is a system_error, and SIGTERM is a wait that ends") {
    std::uint16_t port = 0;
    {
        const listener gone;
        port = gone.port();
    }
    CHECK(run(throws<std::system_error>([](std::uint16_t to) -> task<> {
        static_cast<void>(co_await stream::connect(to));
    }(port))));
    run([]() -> task<> {
        const termination_signal termination;
        kill(getpid(), SIGTERM);
        co_await termination.wait();
    }());
}

} // namespace
