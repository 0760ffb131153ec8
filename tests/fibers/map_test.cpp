#include <creel/fibers/map.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <numeric>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("map returns results in the order of the elements whoever is done first") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        const std::vector<int> seconds{3, 1, 2};
        const auto doubled = creel::map(seconds, 3, [](const int& s) {
            creel::this_fiber::sleep_for(std::chrono::seconds{s});
            return std::make_unique<int>(2 * s);
        });
        std::string text;
        for (const auto& d : doubled)
            text += std::to_string(*d);
        CHECK(text == "624");
        CHECK(outside.now() - begin == 3s);
        CHECK(creel::map(std::vector<int>{}, 1, [](int i) { return i; }).empty());
    });
    CHECK(left == nothing);
}

TEST_CASE("map runs at most limit calls at a time") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        int now = 0;
        int most = 0;
        creel::map(std::views::iota(0, 10), 4, [&](int) {
            most = std::max(most, ++now);
            creel::this_fiber::sleep_for(1s);
            --now;
        });
        CHECK(most == 4);
        CHECK(outside.now() - begin == 3s);
    });
}

TEST_CASE("an error in the middle of a map cancels the rest and begins no more") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        std::vector<int> begun;
        std::vector<int> cancelled;
        CHECK(outcome_of([&] {
                  static_cast<void>(creel::map(std::views::iota(0, 10), 3, [&](int i) {
                      begun.push_back(i);
                      try {
                          creel::this_fiber::sleep_for(i < 3 || i == 4 ? 1s : 1h);
                      } catch (const creel::cancelled&) {
                          cancelled.push_back(i);
                          throw;
                      }
                      if (i == 4)
                          throw std::runtime_error("boom at 4");
                      return i;
                  }));
              }) == "boom at 4");
        CHECK(begun == std::vector<int>{0, 1, 2, 3, 4, 5});
        std::sort(cancelled.begin(), cancelled.end());
        CHECK(cancelled == std::vector<int>{3, 5});
        CHECK(outside.now() - begin == 2s);
    });
    CHECK(left == nothing);
}

TEST_CASE("map passes what stays by reference and moves what a view makes up") {
    run_virtually([] {
        std::vector<int> numbers{1, 2, 3};
        creel::map(numbers, 2, [](int& i) {
            creel::this_fiber::yield();
            i *= 10;
        });
        CHECK(numbers == std::vector<int>{10, 20, 30});
        auto made_up =
            numbers | std::views::transform([](int i) { return std::make_unique<int>(i); });
        const auto back = creel::map(made_up, 2, [](std::unique_ptr<int> p) {
            creel::this_fiber::yield();
            return *p + 1;
        });
        CHECK(back == std::vector<int>{11, 21, 31});
        std::istringstream words{"a bb ccc"}; // read but once
        const auto sizes = creel::map(std::ranges::istream_view<std::string>(words), 3,
                                      [](const std::string& word) {
                                          creel::this_fiber::yield();
                                          return word.size();
                                      });
        CHECK(sizes == std::vector<std::size_t>{1, 2, 3});
    });
}

TEST_CASE("map that is cancelled reads no further and throws cancelled") {
    const auto left = run_virtually([] {
        int read = 0;
        auto endless = std::views::iota(0) | std::views::transform([&](int i) {
                           ++read;
                           return i;
                       });
        CHECK(!creel::move_on_after(1s, [&] {
            return creel::map(endless, 5, [](int i) {
                creel::this_fiber::sleep_for(1h);
                return i;
            });
        }));
        CHECK(read == 6);
        // With room for all there is no wait in spawn: the check at each element ends it.
        creel::cancel_scope s;
        auto cancelling = std::views::iota(0) | std::views::transform([&](int i) {
                              if (i == 10)
                                  s.cancel();
                              return i;
                          });
        CHECK(
            !s.run([&] { return creel::map(cancelling, 1'000'000'000, [](int i) { return i; }); }));
    });
    CHECK(left == nothing);
}

TEST_CASE("a map of many elements keeps no more than limit of them alive") {
    run_virtually([] {
        const auto sum = [](const std::vector<int>& v) {
            return std::accumulate(v.begin(), v.end(), 0);
        };
        CHECK(sum(creel::map(std::views::iota(0, 1000), 7, [](int i) {
                  creel::this_fiber::yield();
                  return i;
              })) == 499500);
        CHECK(creel::statistics().peak_tasks <= 7);
    });
}

TEST_CASE("map with a limit of nothing ends the process with a reason") {
    CHECK_THAT(abort_of_run([] {
                   static_cast<void>(creel::map(std::vector{1}, 0, [](int i) { return i; }));
               }),
               Catch::Contains("limit of at least one"));
}
