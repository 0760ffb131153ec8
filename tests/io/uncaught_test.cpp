// The message on stderr for an uncaught error.
#include "support/check.hpp"
#include "support/child_process.hpp"

#include <creel/fibers/error_policy.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;

namespace {

std::atomic<int> terminated{0};
int threads_to_terminate = 1;

// The program's own handler, which is called last.
[[noreturn]] void handler_of_program() {
    if (++terminated == threads_to_terminate) {
        std::fputs("then the program's own handler", stderr);
        std::fflush(stderr);
        ::_exit(7);
    }
    for (;;)
        ::pause();
}

// Runs f on a thread of its own, where no code catches its error; returns the text on stderr.
std::string uncaught(const std::function<void()>& f, int threads = 1) {
    const auto child = run_in_child([&] {
        threads_to_terminate = threads;
        std::set_terminate(&handler_of_program);
        std::thread{f}.join();
    });
    INFO(to_string(child));
    CHECK(child.exit_code == 7);
    return child.stderr_text;
}

// "uncaught_test.cpp:42": the place `lines` below `where`.
std::string line_after(const std::source_location& where, unsigned lines) {
    return std::string{where.file_name()} + ':' + std::to_string(where.line() + lines);
}

void fail() {
    throw std::runtime_error("unexpected");
}

constexpr const char* programs_own = "then the program's own handler";

} // namespace

TEST_CASE("an uncaught error is told with the fiber it came from, and where that was spawned") {
    const std::source_location before = std::source_location::current();
    const std::string text = uncaught([] {
        io::run([](creel::nursery& root) {
            root.spawn({.name = "culprit"}, [] { throw std::out_of_range("no\nsuch page"); });
        });
    });
    CHECK_THAT(text,
               Catch::StartsWith("creel: uncaught std::out_of_range: no\\nsuch page; it came from "
                                 "culprit (#") &&
                   Catch::EndsWith(", spawned at " + line_after(before, 3) + ")\n" + programs_own));
}

TEST_CASE("an uncaught error of the function given to io::run says so, and where that run is") {
    const std::source_location before = std::source_location::current();
    const std::string text = uncaught([] { io::run([] { throw 5; }); });
    CHECK(text == "creel: uncaught int; it came from the function given to io::run at " +
                      line_after(before, 1) + '\n' + programs_own);
}

TEST_CASE("of an uncaught group each member is told with its fiber") {
    const std::string text = uncaught([] {
        io::run([] {
            creel::with_nursery({.on_error = creel::collect()}, [](creel::nursery& n) {
                n.spawn({.name = "one"}, [] { throw std::runtime_error("first"); });
                n.spawn({.name = "two"}, [] { throw std::runtime_error("second"); });
            });
        });
    });
    CHECK_THAT(text, Catch::StartsWith("creel: uncaught creel::exception_group of 2 errors; it "
                                       "came from the function given to io::run at ") &&
                         Catch::Contains("\ncreel:   std::runtime_error: first; it came from "
                                         "one (#") &&
                         Catch::Contains("\ncreel:   std::runtime_error: second; it came from "
                                         "two (#"));
}

TEST_CASE("what terminates inside a run is told with the fiber it was in") {
    const auto in_fiber = [](void (*f)() noexcept) {
        return uncaught(
            [f] { io::run([f](creel::nursery& root) { root.spawn({.name = "careless"}, f); }); });
    };
    CHECK_THAT(in_fiber([]() noexcept { fail(); }),
               Catch::StartsWith("creel: uncaught std::runtime_error: unexpected; it ended the "
                                 "process in careless (#"));
    CHECK_THAT(in_fiber([]() noexcept { const std::thread not_joined{[] { ::pause(); }}; }),
               Catch::StartsWith("creel: std::terminate was called in careless (#"));
}

TEST_CASE("uncaught errors of several threads' runs are told each by its own") {
    const std::string text = uncaught(
        [] {
            const auto fail = [](const char* name) {
                return [name] {
                    static std::atomic<int> both{0};
                    io::run([name](creel::nursery& root) {
                        root.spawn({.name = name}, [] {
                            for (++both; both != 2;)
                                creel::this_fiber::yield();
                            throw std::runtime_error("boom");
                        });
                    });
                };
            };
            std::thread other{fail("left")};
            fail("right")();
            other.join();
        },
        2);
    CHECK_THAT(text, Catch::Contains("boom; it came from left (#") &&
                         Catch::Contains("boom; it came from right (#"));
}

TEST_CASE("a run names what is uncaught although the program has set a handler in an earlier one") {
    const std::string text = uncaught([] {
        io::run([] { std::set_terminate(&handler_of_program); });
        io::run([] {
            creel::with_nursery([](creel::nursery& n) {
                n.spawn({.name = "culprit"}, [] { throw std::runtime_error("boom"); });
            });
        });
    });
    CHECK_THAT(text, Catch::Contains("boom; it came from culprit (#"));
}

TEST_CASE("errors that are none of a run's are the program's own, and so is its handler after it") {
    const std::string beside = uncaught(
        [] { io::run([] { std::thread{[] { throw std::runtime_error("not ours"); }}.join(); }); });
    CHECK(beside == programs_own);
    const auto child = run_in_child([] {
        std::set_terminate(&handler_of_program);
        io::run([] { expect(std::get_terminate() != &handler_of_program); });
        expect(std::get_terminate() == &handler_of_program);
        try {
            io::run([] { throw 1; });
        } catch (int) {
        }
        expect(std::get_terminate() == &handler_of_program);
    });
    INFO(to_string(child));
    CHECK(child.exited);
}
