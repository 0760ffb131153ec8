#include <creel/fibers/error_origin.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"

#include <creel/fibers/all.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/map.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/race.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

struct payload_error : std::runtime_error {
    explicit payload_error(std::shared_ptr<int> p)
        : std::runtime_error("payload"), payload(std::move(p)) {}
    std::shared_ptr<int> payload;
};

// The name of the fiber from which an error that leaves f came; empty if unknown.
template <typename F>
std::string origin_of(F&& f) {
    try {
        f();
    } catch (...) {
        const auto who = creel::error_origin(std::current_exception());
        return who ? who->name : "";
    }
    return "no error";
}

} // namespace

TEST_CASE("an error that leaves a nursery names the child it came from") {
    run_virtually([] {
        std::optional<creel::task_info> who;
        try {
            creel::with_nursery([](creel::nursery& n) {
                n.spawn({.name = "innocent"}, [] { creel::this_fiber::sleep_for(1h); });
                n.spawn({.name = "culprit"}, [] { throw std::runtime_error("boom"); });
            });
        } catch (const std::runtime_error&) {
            who = creel::error_origin(std::current_exception());
        }
        REQUIRE(who);
        CHECK(who->name == "culprit");
        CHECK(std::string{who->spawned_at.file_name()}.find("error_origin_test") !=
              std::string::npos);
    });
}

TEST_CASE("through nested nurseries an error is the innermost child's") {
    run_virtually([] {
        CHECK(origin_of([] {
                  creel::with_nursery([](creel::nursery& n) {
                      n.spawn({.name = "outer"}, [] {
                          creel::with_nursery([](creel::nursery& inner) {
                              inner.spawn({.name = "inner"}, [] { throw 5; }); // no destructor
                          });
                      });
                  });
              }) == "inner");
    });
}

TEST_CASE("the members of a group have their origins") {
    run_virtually([] {
        std::string names;
        try {
            creel::with_nursery({.on_error = creel::collect()}, [](creel::nursery& n) {
                n.spawn({.name = "a"}, [] { throw std::runtime_error("1"); });
                n.spawn({.name = "b"}, [] { throw std::runtime_error("2"); });
            });
        } catch (const creel::exception_group& group) {
            for (const auto& error : group.errors())
                names += creel::error_origin(error)->name;
        }
        CHECK(names == "ab");
    });
}

TEST_CASE("an error of the body or of no fiber has no origin") {
    run_virtually([] {
        CHECK(origin_of([] {
                  creel::with_nursery([](creel::nursery&) { throw std::runtime_error("body"); });
              }) == "");
        CHECK(!creel::error_origin(nullptr));
    });
    CHECK(!creel::error_origin(std::make_exception_ptr(1)));
}

TEST_CASE("a new error at the address of an old one does not inherit its origin") {
    run_virtually([] {
        for (int i = 0; i < 100; ++i) {
            CHECK(origin_of([] {
                      creel::with_nursery([](creel::nursery& n) {
                          n.spawn({.name = "culprit"}, [] { throw std::runtime_error("boom"); });
                      });
                  }) == "culprit");
            CHECK(origin_of([] { throw std::runtime_error("boom"); }) == "");
        }
    });
}

TEST_CASE("asking for the origin keeps no exception alive and its destructor runs") {
    run_virtually([] {
        const auto payload = std::make_shared<int>(1);
        CHECK(origin_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn({.name = "culprit"}, [&] { throw payload_error{payload}; });
                  });
              }) == "culprit");
        CHECK(payload.use_count() == 1);
    });
}

TEST_CASE("an error may be asked for its origin and die on another thread after the run") {
    const auto payload = std::make_shared<int>(1);
    std::exception_ptr kept;
    run_virtually([&] {
        try {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn({.name = "culprit"}, [&] { throw payload_error{payload}; });
            });
        } catch (...) {
            kept = std::current_exception();
        }
    });
    std::string name;
    std::thread{[&name, mine = std::move(kept)]() mutable {
        name = creel::error_origin(mine)->name;
        mine = nullptr;
    }}.join();
    CHECK(name == "culprit");
    CHECK(payload.use_count() == 1);
}

TEST_CASE("what get and start throw has an origin") {
    run_virtually([] {
        std::string got;
        CHECK(origin_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      auto t = n.async({.name = "culprit"}, []() -> int { throw 1L; });
                      got = origin_of([&] { static_cast<void>(t.get()); });
                  });
              }) == "culprit");
        CHECK(got == "culprit");
        CHECK(origin_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.start({.name = "starter"}, [](creel::started<void>&) { throw 1; });
                  });
              }) == "starter");
    });
}

TEST_CASE("an error out of all, race or map tells which of the functions it comes from") {
    run_virtually([] {
        const auto nothing_yet = [] { creel::this_fiber::sleep_for(1h); };
        const auto fails = [] { throw std::runtime_error("boom"); };
        CHECK(origin_of([&] { static_cast<void>(creel::all(nothing_yet, fails)); }) == "all #2");
        CHECK(origin_of([&] { creel::race(fails); }) == "race #1");
        std::optional<creel::task_info> who;
        std::uint_least32_t line = 0;
        try {
            line = std::source_location::current().line() + 1;
            creel::map(std::vector<int>{1, 2}, 2, [](int) { throw std::runtime_error("boom"); });
        } catch (const creel::exception_group& group) {
            who = creel::error_origin(group.errors().front());
        } catch (const std::runtime_error&) {
            who = creel::error_origin(std::current_exception());
        }
        REQUIRE(who);
        CHECK(std::string{who->spawned_at.file_name()}.find("error_origin_test") !=
              std::string::npos);
        CHECK(who->spawned_at.line() == line);
    });
}
