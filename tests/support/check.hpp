// Catch2, with a CHECK and a REQUIRE that compile faster. A check is most of what a test file is,
// and Catch2 2.13 expands each to three copies of its expression and the inline construction of a
// handler; here it is one copy and two calls. What is evaluated, reported and counted is the same
// as with CATCH_CONFIG_FAST_COMPILE: an exception that leaves the expression leaves the check too,
// and the check has failed.
#pragma once
#pragma GCC system_header // as Catch2 itself: its expressions look like mistakes to -Wparentheses

#include <catch2/catch.hpp>

namespace creel::test {

// One check while its expression is evaluated. An aggregate, so that it is not a call to make one.
struct assertion {
    const char* macro;
    const char* file;
    std::size_t line;
    const char* text;
    Catch::ResultDisposition::Flags disposition;
    bool evaluated = false;

    // Reports to Catch2; of a REQUIRE that does not hold, throws what ends the test case.
    void check(const Catch::ITransientExpression& expression);

    template <typename T>
    void check(const Catch::ExprLhs<T>& value) {
        check(value.makeUnaryExpr());
    }

    ~assertion(); // not evaluated: an exception is on its way, and the check has failed
};

} // namespace creel::test

#undef INTERNAL_CATCH_TEST
#define INTERNAL_CATCH_TEST(macro_name, result_disposition, ...)                                   \
    do {                                                                                           \
        ::creel::test::assertion creel_assertion{macro_name, __FILE__, __LINE__, #__VA_ARGS__,     \
                                                 result_disposition};                              \
        CATCH_INTERNAL_START_WARNINGS_SUPPRESSION                                                  \
        CATCH_INTERNAL_SUPPRESS_PARENTHESES_WARNINGS                                               \
        CATCH_INTERNAL_IGNORE_BUT_WARN(__VA_ARGS__); /* of a comparison of signs, for one */       \
        creel_assertion.check(Catch::Decomposer() <= __VA_ARGS__);                                 \
        CATCH_INTERNAL_STOP_WARNINGS_SUPPRESSION                                                   \
    } while (false)
