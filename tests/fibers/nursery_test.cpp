#include <creel/fibers/nursery.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// The message of what f throws; "nothing" if it returns.
template <typename F>
std::string error_of(F&& f) {
    try {
        f();
    } catch (const std::exception& e) {
        return e.what();
    } catch (const creel::cancelled& c) {
        return "cancelled: " + c.reason().text;
    }
    return "nothing";
}

} // namespace

TEST_CASE("with_nursery waits for every child and returns the body's value") {
    const auto left = run_virtually([] {
        int ended = 0;
        const int value = creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 10; ++i)
                n.spawn([&] {
                    creel::this_fiber::sleep_for(1s);
                    ++ended;
                });
            CHECK(n.children() == 10);
            return 7;
        });
        CHECK(value == 7);
        CHECK(ended == 10);
    });
    CHECK(left == nothing);
}

TEST_CASE("children start in the order they were spawned") {
    run_virtually([] {
        std::string order;
        creel::with_nursery([&](creel::nursery& n) {
            for (char c = 'a'; c <= 'j'; ++c)
                n.spawn([&order, c] { order += c; });
        });
        CHECK(order == "abcdefghij");
    });
}

TEST_CASE("children may spawn more children, also after the body has returned") {
    run_virtually([] {
        int ran = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                creel::this_fiber::sleep_for(1s);
                n.spawn([&] { ++ran; });
            });
        });
        CHECK(ran == 1);
    });
}

TEST_CASE("a child's failure cancels the siblings and the body, and is rethrown as it is") {
    const auto left = run_virtually([] {
        bool sibling_cancelled = false;
        bool body_cancelled = false;
        const std::string error = error_of([&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    try {
                        creel::this_fiber::sleep_for(1h);
                    } catch (const creel::cancelled& c) {
                        sibling_cancelled = c.reason().cause == creel::cancel_cause::sibling_failed;
                        throw;
                    }
                });
                n.spawn([] { throw std::runtime_error("boom"); });
                try {
                    creel::this_fiber::sleep_for(1h);
                } catch (const creel::cancelled&) {
                    body_cancelled = true;
                    throw;
                }
            });
        });
        CHECK(error == "boom");
        CHECK(sibling_cancelled);
        CHECK(body_cancelled);
    });
    CHECK(left == nothing);
}

TEST_CASE("the body's failure cancels the children and is rethrown") {
    run_virtually([] {
        bool child_cancelled = false;
        CHECK(error_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn([&] {
                          try {
                              creel::this_fiber::sleep_for(1h);
                          } catch (const creel::cancelled&) {
                              child_cancelled = true;
                              throw;
                          }
                      });
                      creel::this_fiber::yield();
                      throw std::runtime_error("body");
                  });
              }) == "body");
        CHECK(child_cancelled);
    });
}

TEST_CASE("several failures become one flat exception_group") {
    run_virtually([] {
        std::vector<std::string> messages;
        try {
            creel::with_nursery([&](creel::nursery& n) {
                for (const char* text : {"a", "b"})
                    n.spawn([text] {
                        try {
                            creel::this_fiber::sleep_for(1h);
                        } catch (const creel::cancelled&) {
                            throw std::runtime_error(text); // an error in cleanup
                        }
                    });
                creel::this_fiber::yield();
                creel::with_nursery([](creel::nursery& inner) {
                    inner.spawn([] { throw std::runtime_error("c"); });
                    try {
                        creel::this_fiber::yield();
                    } catch (const creel::cancelled&) {
                        throw std::runtime_error("d");
                    }
                });
            });
        } catch (const creel::exception_group& group) {
            for (const auto& e : group.errors())
                messages.push_back(creel::describe_exception(e));
            CHECK(std::string{group.what()} == "4 errors: [c] [d] [a] [b]");
        }
        CHECK(messages.size() == 4);
    });
}

TEST_CASE("the same exception from two members counts once") {
    run_virtually([] {
        const auto shared = std::make_exception_ptr(std::runtime_error("shared"));
        CHECK(error_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn([&] { std::rethrow_exception(shared); });
                      n.spawn([&] { std::rethrow_exception(shared); });
                  });
              }) == "shared");
    });
}

TEST_CASE("`cancelled` gives way to a real error, and several of it are thrown as one") {
    const auto left = run_virtually([] {
        const auto astray = [](const char* text) { // outside of any cancelled scope
            throw creel::cancelled{std::make_shared<const creel::cancel_reason>(
                creel::cancel_reason{creel::cancel_cause::requested, text, 0})};
        };
        // Cancelled or not: the default policy does that when the first has failed.
        const auto after_a_wait = [](auto f) {
            try {
                creel::this_fiber::sleep_for(1s);
            } catch (const creel::cancelled&) {
            }
            f();
        };
        for (const auto& policy : {creel::error_policy{}, creel::collect()}) {
            CHECK(outcome_of([&] {
                      creel::with_nursery({.on_error = policy}, [&](creel::nursery& n) {
                          n.spawn([&] { after_a_wait([&] { astray("second"); }); });
                          n.spawn([&] { astray("first"); });
                          creel::this_fiber::yield();
                      });
                  }) == "cancelled: first");
            CHECK(outcome_of([&] {
                      creel::with_nursery({.on_error = policy}, [&](creel::nursery& n) {
                          n.spawn([&] { after_a_wait([] { throw std::runtime_error("real"); }); });
                          n.spawn([&] { astray("first"); });
                          creel::this_fiber::yield();
                      });
                  }) == "real");
        }
    });
    CHECK(left == nothing);
}

TEST_CASE("all errors of a large group are kept, and the same exception counts once") {
    constexpr std::size_t count = under_tsan ? 500 : 5000; // TSan dies of 8,128 fibers
    run_virtually([] {
        std::size_t kept = 0;
        const auto shared = std::make_exception_ptr(std::runtime_error("shared"));
        try {
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < count; ++i) {
                    n.spawn([] {
                        try {
                            creel::this_fiber::sleep_for(1h);
                        } catch (const creel::cancelled&) {
                            throw std::runtime_error("cleanup");
                        }
                    });
                    n.spawn([&] {
                        try {
                            creel::this_fiber::sleep_for(1h);
                        } catch (const creel::cancelled&) {
                            std::rethrow_exception(shared);
                        }
                    });
                }
                creel::this_fiber::yield();
                n.cancel();
            });
        } catch (const creel::exception_group& group) {
            kept = group.errors().size();
        }
        CHECK(kept == count + 1);
    });
}

TEST_CASE("cancel() ends a group early with no error") {
    const auto left = run_virtually([] {
        int cancelled = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    try {
                        creel::this_fiber::sleep_for(1h);
                    } catch (const creel::cancelled& c) {
                        CHECK(c.reason().text == "enough");
                        ++cancelled;
                        throw;
                    }
                });
            creel::this_fiber::sleep_for(1s);
            n.cancel("enough");
            n.cancel("again");
        });
        CHECK(cancelled == 3);
    });
    CHECK(left == nothing);
}

TEST_CASE("a body with a value that was cut short by cancel() gives task_cancelled") {
    run_virtually([] {
        CHECK_THROWS_AS(creel::with_nursery([](creel::nursery& n) {
                            n.cancel("enough");
                            creel::this_fiber::yield();
                            return 1;
                        }),
                        creel::task_cancelled);
        CHECK(creel::with_nursery([](creel::nursery& n) {
                  n.cancel();
                  return 1; // no wait: it was not cut short
              }) == 1);
    });
}

TEST_CASE("spawning into a cancelled nursery destroys the closure at once and runs nothing") {
    run_virtually([] {
        bool ran = false;
        const auto owned = std::make_shared<int>(1);
        creel::with_nursery([&](creel::nursery& n) {
            n.cancel();
            n.spawn([&ran, copy = owned] { ran = copy != nullptr; });
            CHECK(owned.use_count() == 1);
        });
        CHECK(!ran);
    });
}

TEST_CASE("a child that has not started when its nursery is cancelled never runs") {
    run_virtually([] {
        bool ran = false;
        const auto owned = std::make_shared<int>(1);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&ran, copy = owned] { ran = copy != nullptr; });
            n.cancel();
        });
        CHECK(!ran);
        CHECK(owned.use_count() == 1);
    });
}

TEST_CASE("a closure is destroyed before its nursery ends") {
    run_virtually([] {
        std::weak_ptr<int> seen;
        creel::with_nursery([&](creel::nursery& n) {
            auto owned = std::make_shared<int>(1);
            seen = owned;
            n.spawn([o = std::move(owned)] { creel::this_fiber::sleep_for(1s); });
        });
        CHECK(seen.expired());
    });
}

TEST_CASE("leaving an empty nursery is a schedule point") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            bool ran = false;
            n.spawn([&] { ran = true; });
            creel::with_nursery([](creel::nursery&) {});
            CHECK(ran);
        });
    });
}

TEST_CASE("leaving a nursery is not a cancel point") {
    run_virtually([] {
        bool reached = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.cancel();
            creel::with_nursery([](creel::nursery&) {});
            reached = true;
        });
        CHECK(reached);
    });
}

TEST_CASE("collect() lets the siblings go on and throws all errors at the end") {
    run_virtually([] {
        int finished = 0;
        const std::string error = error_of([&] {
            creel::with_nursery({.on_error = creel::collect()}, [&](creel::nursery& n) {
                n.spawn([] { throw std::runtime_error("a"); });
                n.spawn([&] {
                    creel::this_fiber::sleep_for(1s);
                    ++finished;
                });
                n.spawn([] {
                    creel::this_fiber::sleep_for(2s);
                    throw std::runtime_error("b");
                });
            });
        });
        CHECK(error == "2 errors: [a] [b]");
        CHECK(finished == 1);
    });
}

TEST_CASE("report() gives each child's error to the handler and cancels nobody") {
    run_virtually([] {
        std::vector<std::string> reported;
        int finished = 0;
        auto handler = [&](std::exception_ptr error, const creel::task_info& who) {
            reported.push_back(who.name + ": " + creel::describe_exception(error));
        };
        creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
            n.spawn({.name = "bad"}, [] { throw std::runtime_error("boom"); });
            n.spawn([&] {
                creel::this_fiber::sleep_for(1s);
                ++finished;
            });
        });
        CHECK(reported == std::vector<std::string>{"bad: boom"});
        CHECK(finished == 1);
        CHECK(creel::statistics().errors_reported == 1);
    });
}

TEST_CASE("with report() the body's own error still cancels the children and is thrown") {
    run_virtually([] {
        CHECK(error_of([] {
                  creel::with_nursery({.on_error = creel::report()}, [](creel::nursery& n) {
                      n.spawn([] { creel::this_fiber::sleep_for(1h); });
                      throw std::runtime_error("body");
                  });
              }) == "body");
    });
}

TEST_CASE("report() without a handler writes one line to stderr") {
    const auto outcome = run_in_child([] {
        run_virtually([] {
            creel::with_nursery({.on_error = creel::report()}, [](creel::nursery& n) {
                n.spawn({.name = "bad"}, [] { throw std::runtime_error("boom"); });
            });
        });
    });
    CHECK(outcome.exited);
    CHECK(outcome.stderr_text.find("bad (#") != std::string::npos);
    CHECK(outcome.stderr_text.find("failed: boom\n") != std::string::npos);
}

TEST_CASE("a report() handler that throws ends the process, and is told apart") {
    const auto outcome = run_in_child([] {
        run_virtually([] {
            const auto handler = [](const std::exception_ptr&, const creel::task_info&) {
                throw std::logic_error("worse");
            };
            creel::with_nursery({.on_error = creel::report(handler)}, [](creel::nursery& n) {
                n.spawn({.name = "bad"}, [] { throw std::runtime_error("boom"); });
            });
        });
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK_THAT(outcome.stderr_text,
               Catch::Contains("creel: the handler given to report() threw worse when told of "
                               "bad (#"));
}

TEST_CASE("the line of report() shows control characters and does not obey them") {
    const auto outcome = run_in_child([] {
        run_virtually([] {
            creel::with_nursery({.on_error = creel::report()}, [](creel::nursery& n) {
                n.spawn({.name = "a\rb"}, [] { throw std::runtime_error("one\ntwo\x1b[2J\x7f"); });
            });
        });
    });
    INFO(to_string(outcome));
    CHECK(outcome.stderr_text.find("a\\x0db (#") != std::string::npos);
    CHECK(outcome.stderr_text.find("one\\ntwo\\x1b[2J\\x7f\n") != std::string::npos);
}

TEST_CASE("a nursery inside catch waits, and the exception is still the handler's") {
    run_virtually([] {
        CHECK(error_of([] {
                  try {
                      throw std::runtime_error("outer");
                  } catch (...) {
                      creel::with_nursery([](creel::nursery& n) {
                          n.spawn([] {
                              try {
                                  creel::this_fiber::sleep_for(1s);
                                  throw std::runtime_error("inner");
                              } catch (const std::runtime_error&) {
                              }
                          });
                      });
                      throw;
                  }
              }) == "outer");
    });
}

TEST_CASE("closures may be large, over-aligned, move-only, and throw when moved in") {
    struct alignas(64) wide {
        std::array<char, 1000> bytes{};
    };
    struct throws_on_copy {
        throws_on_copy() = default;
        throws_on_copy(const throws_on_copy&) { throw std::runtime_error("copy"); }
        void operator()() const {}
    };
    const auto left = run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            auto unique = std::make_unique<int>(3);
            wide w;
            w.bytes[999] = 'x';
            n.spawn([w, u = std::move(unique)] {
                CHECK(reinterpret_cast<std::uintptr_t>(&w) % 64 == 0);
                CHECK(w.bytes[999] == 'x');
                CHECK(*u == 3);
            });
            const throws_on_copy f;
            CHECK_THROWS_WITH(n.spawn(f), "copy");
            CHECK(n.children() == 1);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("a spawn from another thread is a clear error") {
    const auto outcome = run_in_child([] {
        run_virtually([] {
            creel::with_nursery(
                [](creel::nursery& n) { std::thread{[&] { n.spawn([] {}); }}.join(); });
        });
    });
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("on its own thread only") != std::string::npos);
    CHECK(outcome.stderr_text.find("nursery.remote()") != std::string::npos);
}

TEST_CASE("nurseries nested 10,000 deep are cancelled without running out of stack") {
    run_virtually([] {
        // Each level is a fiber of its own; the cancel walks all of them on one stack.
        int unwound = 0;
        const int depth = under_tsan ? 2'000 : 10'000;
        struct level {
            int* count;
            void operator()(int left) const {
                creel::with_nursery([&](creel::nursery& n) {
                    if (left > 0)
                        n.spawn([self = *this, left] { self(left - 1); });
                    try {
                        creel::this_fiber::sleep_for(1h);
                    } catch (const creel::cancelled&) {
                        ++*count;
                        throw;
                    }
                });
            }
        };
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { level{&unwound}(depth); });
            creel::this_fiber::sleep_for(1s);
            n.cancel();
        });
        CHECK(unwound == depth + 1);
    });
}

TEST_CASE("a child keeps its name and its closure whole whatever their size and alignment") {
    // Nodes are recycled: the second round meets those of the first.
    struct alignas(64) wide {
        unsigned char bytes[64];
    };
    struct huge {
        unsigned char bytes[2000];
    };
    std::size_t wrong = 0;
    std::size_t ran = 0;
    run_virtually([&] {
        for (int round = 0; round < 2; ++round)
            creel::with_nursery([&](creel::nursery& n) {
                for (const std::size_t length : {0U, 1U, 15U, 16U, 70U, 90U, 300U, 1000U}) {
                    std::string name(length, static_cast<char>('a' + length % 26));
                    auto check = [&wrong, &ran, name](const auto& payload) {
                        creel::this_fiber::yield();
                        wrong += creel::this_fiber::name() != name ? 1 : 0;
                        const auto address = reinterpret_cast<std::uintptr_t>(&payload);
                        wrong += address % alignof(decltype(payload)) != 0 ? 1 : 0;
                        for (const unsigned char byte : payload.bytes)
                            wrong += byte != 7 ? 1 : 0;
                        ++ran;
                    };
                    wide aligned;
                    std::fill(std::begin(aligned.bytes), std::end(aligned.bytes), 7);
                    huge large;
                    std::fill(std::begin(large.bytes), std::end(large.bytes), 7);
                    n.spawn({.name = name}, [check, aligned] { check(aligned); });
                    n.spawn({.name = name}, [check, large] { check(large); });
                    n.spawn({.name = name}, [&ran, &wrong, length] {
                        wrong += creel::this_fiber::name().size() != length ? 1 : 0;
                        ++ran;
                    });
                }
                n.spawn([&] { wrong += creel::this_fiber::name().empty() ? 0 : 1; });
            });
    });
    CHECK(ran == 2 * 8 * 3);
    CHECK(wrong == 0);
}
