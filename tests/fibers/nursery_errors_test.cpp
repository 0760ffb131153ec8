// The errors of a nursery's children and of its body, under each policy.
#include "support/at_exit.hpp"
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("a child's failure cancels the siblings and the body, and is rethrown as it is") {
    const auto left = run_virtually([] {
        bool sibling_cancelled = false;
        bool body_cancelled = false;
        const std::string error = outcome_of([&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    when_cancelled([&](const creel::cancelled& c) {
                        sibling_cancelled = c.reason().cause == creel::cancel_cause::sibling_failed;
                    });
                });
                n.spawn([] { throw std::runtime_error("boom"); });
                when_cancelled([&] { body_cancelled = true; });
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
        CHECK(outcome_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn([&] { when_cancelled([&] { child_cancelled = true; }); });
                      creel::this_fiber::yield();
                      throw std::runtime_error("body");
                  });
              }) == "body");
        CHECK(child_cancelled);
    });
}

TEST_CASE("several failures become one flat exception_group") {
    run_virtually([] {
        CHECK(outcome_of([] {
                  creel::with_nursery([](creel::nursery& n) {
                      for (const char* text : {"a", "b"})
                          n.spawn([text] {
                              when_cancelled([&] {
                                  throw std::runtime_error(text); // an error in cleanup
                              });
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
              }) == "4 errors: [c] [d] [a] [b]");
    });
}

TEST_CASE("the same exception from two members counts once") {
    run_virtually([] {
        const auto shared = std::make_exception_ptr(std::runtime_error("shared"));
        CHECK(outcome_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn([&] { std::rethrow_exception(shared); });
                      n.spawn([&] { std::rethrow_exception(shared); });
                  });
              }) == "shared");
    });
}

TEST_CASE("all errors of a large group are kept, and the same exception counts once") {
    constexpr std::size_t count = under_tsan ? 200 : 5'000; // TSan dies of 8,128 fibers
    run_virtually([] {
        std::size_t kept = 0;
        const auto shared = std::make_exception_ptr(std::runtime_error("shared"));
        try {
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < count; ++i) {
                    n.spawn([] { when_cancelled([&] { throw std::runtime_error("cleanup"); }); });
                    n.spawn([&] { when_cancelled([&] { std::rethrow_exception(shared); }); });
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

TEST_CASE("`cancelled` gives way to a real error, and several of it are thrown as one") {
    const auto left = run_virtually([] {
        const auto astray = [](const char* text) { // outside of any cancelled scope
            throw creel::cancelled{std::make_shared<const creel::cancel_reason>(
                creel::cancel_reason{creel::cancel_cause::requested, text, 0})};
        };
        // Cancelled or not: the default policy cancels when the first child has failed.
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

TEST_CASE("a failure while being cancelled is the error that is thrown") {
    run_virtually([] {
        CHECK(outcome_of([] {
                  creel::with_nursery([](creel::nursery& n) {
                      n.spawn([] {
                          when_cancelled([] { throw std::runtime_error("while cancelled"); });
                      });
                      creel::this_fiber::yield();
                      n.cancel();
                  });
              }) == "while cancelled");
    });
}

TEST_CASE("an error thrown by cleanup during a cancel is in a group with its cause") {
    run_virtually([] {
        CHECK(outcome_of([] {
                  creel::with_nursery([](creel::nursery& n) {
                      n.spawn([] { when_cancelled([] { throw std::runtime_error("cleanup"); }); });
                      creel::this_fiber::yield();
                      throw std::runtime_error("cause");
                  });
              }) == "2 errors: [cause] [cleanup]");
    });
}

TEST_CASE("an error in cleanup during cancellation joins the failure that caused it") {
    run_virtually([] {
        struct cleanup {
            std::string& log;
            ~cleanup() {
                try { // an exception of its own must not leave a destructor
                    creel::fail_after(1s, [] { creel::this_fiber::sleep_for(1h); });
                } catch (const creel::timed_out&) {
                    log += "cleanup timed out";
                }
            }
        };
        std::string log;
        const std::string error = outcome_of([&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    const cleanup last{log};
                    creel::this_fiber::sleep_for(1h);
                });
                n.spawn([] {
                    creel::this_fiber::yield();
                    throw std::runtime_error("first");
                });
            });
        });
        CHECK(log == "cleanup timed out");
        CHECK(error == "first");
    });
}

TEST_CASE("a nursery inside catch waits, and the exception is still the handler's") {
    run_virtually([] {
        CHECK(outcome_of([] {
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

TEST_CASE("collect() lets the siblings go on and throws all errors at the end") {
    run_virtually([] {
        int finished = 0;
        const std::string error = outcome_of([&] {
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
        CHECK(outcome_of([] {
                  creel::with_nursery({.on_error = creel::report()}, [](creel::nursery& n) {
                      n.spawn([] { creel::this_fiber::sleep_for(1h); });
                      throw std::runtime_error("body");
                  });
              }) == "body");
    });
}

namespace {
// The text that report() without a handler writes to stderr when a child of this name fails so.
std::string reported(const char* name, const char* error) {
    const auto child = run_in_child([&] {
        run_virtually([&] {
            creel::with_nursery({.on_error = creel::report()}, [&](creel::nursery& n) {
                n.spawn({.name = name}, [&] { throw std::runtime_error(error); });
            });
        });
    });
    CHECK(child.exited);
    return child.stderr_text;
}
} // namespace

TEST_CASE("report() without a handler writes one line to stderr") {
    const std::string line = reported("bad", "boom");
    CHECK_THAT(line, Catch::Contains("bad (#"));
    CHECK_THAT(line, Catch::EndsWith("failed: boom\n"));
}

TEST_CASE("the line of report() shows control characters and does not obey them") {
    const std::string line = reported("a\rb", "one\ntwo\x1b[2J\x7f");
    CHECK_THAT(line, Catch::Contains("a\\x0db (#"));
    CHECK_THAT(line, Catch::EndsWith("one\\ntwo\\x1b[2J\\x7f\n"));
}

TEST_CASE("a report() handler that throws ends the process, and is told apart") {
    const std::string message = abort_of_run([] {
        const auto handler = [](const std::exception_ptr&, const creel::task_info&) {
            throw std::logic_error("worse");
        };
        creel::with_nursery({.on_error = creel::report(handler)}, [](creel::nursery& n) {
            n.spawn({.name = "bad"}, [] { throw std::runtime_error("boom"); });
        });
    });
    CHECK_THAT(message, Catch::Contains("creel: the handler given to report() threw worse when "
                                        "told of bad (#"));
}

TEST_CASE("a report() handler that waits while the nursery is cancelled ends quietly, at once") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool began = false;
        bool interrupted = false;
        auto handler = [&](std::exception_ptr, const creel::task_info&) {
            began = true;
            const at_exit leaving{[&] { interrupted = std::uncaught_exceptions() == 1; }};
            creel::this_fiber::sleep_for(1h);
        };
        creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
            n.spawn([] { throw std::runtime_error("bad"); });
            creel::this_fiber::sleep_for(1s);
            n.cancel();
        });
        CHECK(began);
        CHECK(interrupted);
        CHECK(outside.now() - begin == 1s);
    });
}

TEST_CASE("a child whose report() handler waits has not ended: its handle may go meanwhile") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        int reported = 0;
        auto handler = [&](std::exception_ptr, const creel::task_info&) {
            creel::this_fiber::sleep_for(1s);
            ++reported;
        };
        creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
            const auto fails = [a = std::array<long, 4>{}] {
                if (a[0] == 0)
                    throw std::runtime_error("bad");
            };
            {
                const auto dropped = n.async(fails);
                creel::this_fiber::yield(); // its handler waits from here on
                CHECK(!dropped.ready());
            }
            bool second_cancelled = false;
            // A task of the same size: it must not get the node that is still in use.
            auto second = n.async([&, a = std::array<long, 3>{}] {
                static_cast<void>(a);
                when_cancelled([&] { second_cancelled = true; });
            });
            CHECK(n.children() == 2);
            creel::this_fiber::sleep_for(2s);
            CHECK(reported == 1);
            CHECK(n.children() == 1);
            auto third = n.async(fails);
            CHECK(outcome_of([&] { third.get(); }) == "bad"); // waits for the handler, too
            CHECK(outside.now() - begin == 3s);
            n.cancel();
            CHECK_THROWS_AS(creel::shield([&] { second.get(); }), creel::task_cancelled);
            CHECK(second_cancelled);
        });
        CHECK(reported == 2);
        CHECK(outside.now() - begin == 3s);
    });
    CHECK(left == nothing);
}

TEST_CASE("a report() handler may fail its nursery with the error, or with one of its own") {
    const auto left = run_virtually([] {
        int reported = 0;
        bool sibling_cancelled = false;
        const auto handler = [&](creel::nursery& n, const std::exception_ptr& error,
                                 const creel::task_info& who) {
            if (++reported == 2)
                n.fail(error);
            CHECK(who.name == "worker");
        };
        CHECK(outcome_of([&] {
                  creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
                      n.spawn([&] { when_cancelled([&] { sibling_cancelled = true; }); });
                      for (const char* what : {"first", "second"})
                          n.spawn({.name = "worker"}, [what] { throw std::runtime_error(what); });
                  });
              }) == "second");
        CHECK(reported == 2);
        CHECK(sibling_cancelled);
        CHECK(outcome_of([] { // whatever the policy
                  creel::with_nursery({.on_error = creel::collect()}, [](creel::nursery& n) {
                      n.spawn([] { creel::this_fiber::sleep_for(1h); });
                      n.fail(std::make_exception_ptr(std::runtime_error("given up")));
                  });
              }) == "given up");
    });
    CHECK(left == nothing);
}

TEST_CASE("a report() handler that a cancel from outside cuts short leaves its work undone") {
    run_virtually([] {
        int runs = 0;
        bool went_on = false;
        const auto restart = [&](creel::nursery& n, const std::exception_ptr&,
                                 const creel::task_info&) {
            creel::this_fiber::sleep_for(1s); // as supervisors do
            n.spawn([&] { ++runs; });
        };
        CHECK(!creel::move_on_after(20ms, [&] {
            creel::with_nursery({.on_error = creel::report(restart)}, [&](creel::nursery& n) {
                n.spawn([] { throw std::runtime_error("crash"); });
            });
            went_on = true;
        }));
        CHECK(runs == 0);
        CHECK(!went_on);
    });
}

TEST_CASE("a `cancelled` that a nursery fails with gives way to any other error") {
    run_virtually([] {
        const auto foreign = std::make_exception_ptr(
            creel::cancelled{std::make_shared<const creel::cancel_reason>()});
        CHECK(outcome_of([&] {
                  creel::with_nursery({.on_error = creel::collect()}, [&](creel::nursery& n) {
                      n.spawn([] { throw std::runtime_error("real"); });
                      creel::this_fiber::yield();
                      n.fail(foreign);
                  });
              }) == "real");
        CHECK(outcome_of([&] {
                  creel::with_nursery([&](creel::nursery& n) { n.fail(foreign); });
              }) == "cancelled: ");
    });
}

TEST_CASE("a report() handler that throws `cancelled` without a cancel fails its nursery") {
    run_virtually([] {
        const auto rethrow = [](const std::exception_ptr& error, const creel::task_info&) {
            std::rethrow_exception(error);
        };
        CHECK(outcome_of([&] {
                  creel::with_nursery({.on_error = creel::report(rethrow)}, [](creel::nursery& n) {
                      n.spawn([] { creel::this_fiber::sleep_for(1h); });
                      n.spawn([] {
                          throw creel::cancelled{std::make_shared<const creel::cancel_reason>()};
                      });
                  });
              }) == "cancelled: ");
    });
}

TEST_CASE("a report() handler may drop the handle of the child that failed") {
    const auto left = run_virtually([] {
        creel::task<std::string> handle;
        auto handler = [&](std::exception_ptr, const creel::task_info& who) {
            handle = {};
            CHECK(who.name == "fails");
        };
        creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
            handle = n.async({.name = "fails"},
                             []() -> std::string { throw std::runtime_error("bad"); });
            creel::this_fiber::yield();
            CHECK(!handle.valid());
            CHECK(n.children() == 0);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("an error handler whose copy throws leaves no nursery behind") {
    struct bad_handler {
        bad_handler() = default;
        bad_handler(const bad_handler&) { throw std::runtime_error("copy"); }
        bad_handler(bad_handler&&) = default;
        void operator()(std::exception_ptr, const creel::task_info&) const {}
    };
    run_virtually([] {
        const creel::nursery_options options{.on_error = creel::report(bad_handler{})};
        CHECK_THROWS_WITH(creel::with_nursery(options, [](creel::nursery&) {}), "copy");
    });
}
