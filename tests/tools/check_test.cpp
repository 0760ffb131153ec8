// CHECK and REQUIRE as tests/support/check.hpp has them. The cases tagged [.planted] fail; another
// test runs them and looks at what Catch2 counts (tests/CMakeLists.txt).
#include "support/check.hpp"

#include <vector>

namespace {

int throws() {
    throw 1;
}

template <typename T>
void check_in_a_template(const T& value) {
    CHECK(value == T{});
}

} // namespace

TEST_CASE("a check takes commas, lambdas and values that only turn into bool") {
    CHECK(std::vector<int>{1, 2} == std::vector<int>{1, 2});
    CHECK([](int a, int b) { return a + b; }(1, 2) == 3);
    const auto generic = [](auto value) { CHECK(value == 7); };
    generic(7);
    generic(7L);
    CHECK(static_cast<const void*>(&generic));
    CHECK_FALSE(std::vector<int>{1} == std::vector<int>{2});
}

TEST_CASE("checks that fail let the case go on", "[.planted]") {
    CHECK(1 == 2);
    CHECK_FALSE(true);
    check_in_a_template(1);
    CHECK(true);
}

TEST_CASE("a check has failed that an exception leaves", "[.planted]") {
    try {
        CHECK(throws() == 1);
    } catch (int) {
    }
    CHECK(true);
}

TEST_CASE("a REQUIRE that fails ends the case", "[.planted]") {
    const auto require = [] { REQUIRE(false); };
    require();
    CHECK(false);
}
