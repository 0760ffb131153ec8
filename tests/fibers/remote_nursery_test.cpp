#include <creel/fibers/remote_nursery.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {
constexpr auto with_threads = manual_poller::other_threads::yes;
}

TEST_CASE("a remote handle spawns from another thread onto the nursery's own") {
    const auto left = run_virtually(
        [] {
            const auto home = std::this_thread::get_id();
            std::vector<std::string> ran;
            gate done;
            creel::with_nursery([&](creel::nursery& n) {
                std::atomic<bool> accepted{true};
                std::thread other{[&, entry = n.remote()] {
                    for (int i = 0; i < 3; ++i)
                        if (!entry.spawn({.name = "remote " + std::to_string(i)}, [&] {
                                CHECK(std::this_thread::get_id() == home);
                                ran.emplace_back(creel::this_fiber::name());
                                if (ran.size() == 3)
                                    done.open();
                            }))
                            accepted = false;
                }};
                done.pass();
                other.join();
                CHECK(accepted);
            });
            CHECK(ran == std::vector<std::string>{"remote 0", "remote 1", "remote 2"});
        },
        {}, with_threads);
    CHECK(left == nothing);
}

TEST_CASE("a remote handle spawns on its own thread") {
    run_virtually([] {
        int ran = 0;
        creel::with_nursery([&](creel::nursery& n) {
            const auto entry = n.remote();
            const bool accepted = entry.spawn([&] { ++ran; });
            CHECK(accepted);
            CHECK(n.children() == 1);
        });
        CHECK(ran == 1);
    });
}

TEST_CASE("a remote handle does not hold the nursery open and is refused afterwards") {
    std::optional<creel::remote_nursery> entry;
    const auto owned = std::make_shared<int>(1);
    bool ran = false;
    run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) { entry = n.remote(); });
        const bool accepted = entry->spawn([&ran, owned] { ran = true; });
        CHECK(!accepted);
        CHECK(owned.use_count() == 1); // destroyed at once
    });
    const bool accepted = entry->spawn([&ran, owned] { ran = true; });
    CHECK(!accepted);
    CHECK(owned.use_count() == 1);
    std::thread{[copy = *entry] { static_cast<void>(copy.spawn([] {})); }}.join();
    CHECK(!ran);
}

TEST_CASE("a remote handle is refused by a cancelled nursery") {
    const auto left = run_virtually([] {
        const auto owned = std::make_shared<int>(1);
        bool ran = false;
        // Cancelled after and before the handle was made.
        for (const bool after : {true, false})
            creel::with_nursery([&](creel::nursery& n) {
                if (!after)
                    n.cancel();
                const auto entry = n.remote();
                if (after)
                    n.cancel();
                bool accepted = true;
                std::thread{[&] { accepted = entry.spawn([&ran, owned] { ran = true; }); }}.join();
                CHECK(!accepted);
            });
        // Cancelled from above, by a deadline; and shielded, when it takes children again.
        static_cast<void>(creel::move_on_after(1s, [&](creel::cancel_scope&) {
            creel::with_nursery([&](creel::nursery& n) {
                const auto entry = n.remote();
                creel::shield([] { creel::this_fiber::sleep_for(2s); });
                const bool in_cancelled = entry.spawn([&ran, owned] { ran = true; });
                CHECK(!in_cancelled);
                n.scope().set_shielded(true);
                const bool in_shielded = entry.spawn([owned] {});
                CHECK(in_shielded);
            });
        }));
        CHECK(!ran);
        CHECK(owned.use_count() == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE("a remote handle is refused at max_children and never waits") {
    run_virtually(
        [] {
            int ran = 0;
            creel::with_nursery({.max_children = 2}, [&](creel::nursery& n) {
                const auto entry = n.remote();
                gate g;
                std::vector<bool> accepted;
                std::thread{[&] {
                    for (int i = 0; i < 3; ++i)
                        accepted.push_back(entry.spawn([&] {
                            g.pass();
                            ++ran;
                        }));
                }}.join();
                CHECK(accepted == std::vector<bool>{true, true, false});
                CHECK(!creel::move_on_after(1s, [&] { n.spawn([] {}); })); // the local way waits
                g.open();
                n.spawn([&] { ++ran; });
            });
            CHECK(ran == 3);
        },
        {}, with_threads);
}

TEST_CASE("what was handed in when the nursery's last child ends is a child still") {
    run_virtually(
        [] {
            std::string order;
            creel::with_nursery([&](creel::nursery& n) {
                const auto entry = n.remote();
                n.spawn([&, entry] {
                    // Nothing is polled between this and the end of the last child.
                    std::thread{[&] {
                        const bool accepted = entry.spawn([&] { order += " late"; });
                        order += accepted ? "accepted" : "refused";
                    }}.join();
                });
            });
            CHECK(order == "accepted late");
        },
        {}, with_threads);
}

TEST_CASE("what was handed in before a cancel is dropped and its closure destroyed") {
    const auto left = run_virtually(
        [] {
            const auto owned = std::make_shared<int>(1);
            bool ran = false;
            creel::with_nursery([&](creel::nursery& n) {
                bool accepted = false;
                std::thread{[&, entry = n.remote()] {
                    accepted = entry.spawn([&ran, owned] { ran = true; });
                }}.join();
                CHECK(accepted);
                n.cancel();
            });
            CHECK(!ran);
            CHECK(owned.use_count() == 1);
        },
        {}, with_threads);
    CHECK(left == nothing);
}

TEST_CASE("a thread that has cancelled the nursery is refused by it at once") {
    const auto left = run_virtually(
        [] {
            const auto owned = std::make_shared<int>(1);
            bool ran = false;
            bool accepted = true;
            creel::with_nursery([&](creel::nursery& n) {
                std::thread{[&, entry = n.remote(), token = n.token()] {
                    token.cancel();
                    accepted = entry.spawn([&ran, owned] { ran = true; });
                }}.join();
            });
            CHECK(!accepted);
            CHECK(!ran);
            CHECK(owned.use_count() == 1);
        },
        {}, with_threads);
    CHECK(left == nothing);
}

TEST_CASE("what a thread hands in after a cancel of its own around the nursery is dropped as any") {
    run_virtually(
        [] {
            for (const bool body_waits : {false, true}) {
                bool ran = false;
                bool accepted = false;
                creel::cancel_scope around;
                const bool done = around.run([&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        std::thread{[&, entry = n.remote(), token = around.token()] {
                            token.cancel();
                            accepted = entry.spawn([&ran] { ran = true; });
                        }}.join();
                        if (body_waits)
                            creel::this_fiber::sleep_for(1h);
                    });
                });
                CHECK(accepted); // the nursery's thread has not seen the cancel
                CHECK(!done);
                CHECK(!ran);
            }
        },
        {}, with_threads);
}

TEST_CASE("a nursery shielded from a cancel that its token tells of takes remote children") {
    run_virtually([] {
        bool ran = false;
        creel::cancel_scope around;
        around.run([&] {
            creel::with_nursery([&](creel::nursery& n) {
                const auto entry = n.remote();
                const auto token = n.token();
                around.cancel();
                n.scope().set_shielded(true);
                CHECK(token.cancelled()); // that is final
                const bool accepted = entry.spawn([&] { ran = true; });
                CHECK(accepted);
            });
        });
        CHECK(ran);
    });
}

TEST_CASE("the error of a remote child goes to the nursery") {
    run_virtually(
        [] {
            CHECK(outcome_of([] {
                      creel::with_nursery([](creel::nursery& n) {
                          std::thread{[entry = n.remote()] {
                              static_cast<void>(
                                  entry.spawn([] { throw std::runtime_error("boom"); }));
                          }}.join();
                          creel::this_fiber::sleep_for(1h);
                      });
                  }) == "boom");
        },
        {}, with_threads);
}

TEST_CASE("a closure that throws while it is handed in leaves nothing") {
    struct bad {
        bad() = default;
        bad(const bad&) { throw std::runtime_error("no copy"); }
        void operator()() const {}
    };
    const auto left = run_virtually([] {
        creel::with_nursery({.max_children = 1}, [](creel::nursery& n) {
            const auto entry = n.remote();
            const bad f;
            CHECK(outcome_of([&] { static_cast<void>(entry.spawn(f)); }) == "no copy");
            CHECK(n.children() == 0);
            const bool accepted = entry.spawn([] {});
            CHECK(accepted);
        });
    });
    CHECK(left == nothing);
}

namespace {

// A closure that counts its end, run or not.
class counted {
public:
    explicit counted(std::atomic<int>& ended) : ended_(&ended) {}
    counted(counted&& o) noexcept : ended_(std::exchange(o.ended_, nullptr)) {}
    ~counted() {
        if (ended_ != nullptr)
            ended_->fetch_add(1);
    }
    void operator()() const { creel::this_fiber::yield(); }

private:
    std::atomic<int>* ended_;
};

// The newest nursery, for threads that hand closures in, and the counts of those closures.
struct open_door {
    std::mutex mutex;
    std::optional<creel::remote_nursery> entry; // guarded by mutex
    std::atomic<bool> over{false};
    std::atomic<int> accepted{0};
    std::atomic<int> refused{0};
    std::atomic<int> ended{0};

    void hand_in() {
        constexpr int most_under_way = 1000; // TSan dies of 8,128 fibers
        std::optional<creel::remote_nursery> mine;
        if (accepted + refused - ended <= most_under_way) {
            const std::lock_guard lock{mutex};
            mine = entry;
        }
        for (int i = 0; mine && i < 5; ++i)
            ++(mine->spawn(counted{ended}) ? accepted : refused);
        std::this_thread::yield();
    }

    // Nurseries that stay open for more and more rounds of the ready queue; every third one is
    // cancelled.
    void run_nurseries() {
        for (int i = 0; i < 50; ++i)
            creel::with_nursery({.max_children = i % 2 == 0 ? 0u : 4u}, [&](creel::nursery& n) {
                {
                    const std::lock_guard lock{mutex};
                    entry = n.remote();
                }
                const int before = accepted;
                while (i == 0 && accepted == before)
                    creel::this_fiber::yield(); // one at least
                for (int k = 0; k < i; ++k)
                    creel::this_fiber::yield();
                if (i % 3 == 0)
                    n.cancel();
            });
    }
};

} // namespace

TEST_CASE("remote spawns race with nurseries and runs that end [stress]", "[stress]") {
    // Every accepted closure runs or is dropped by a cancel; none is lost, none runs twice.
    open_door door;
    crowd threads{"remote spawns", {.schedulers = 0}, [&](crowd_member&) {
                      while (!door.over)
                          door.hand_in();
                  }};
    const time_limit limit;
    for (int run = 0; run < 3 || (run < 20 && !limit.passed()); ++run)
        run_virtually([&] { door.run_nurseries(); }, {}, with_threads);
    while (door.refused == 0)
        std::this_thread::yield(); // the last nursery has closed
    door.over = true;
    threads.join();
    CHECK(door.ended == door.accepted + door.refused);
    CHECK(door.accepted > 0);
    CHECK(door.refused > 0);
}
