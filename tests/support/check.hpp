// Catch2, with a CHECK and a REQUIRE that compile faster. Most of a test file is checks.
// Catch2 2.13 expands each to three copies of its expression and the inline construction of a
// handler; here it is one copy and two calls. It evaluates, reports and counts the same as with
// CATCH_CONFIG_FAST_COMPILE: an exception that leaves the expression leaves the check too, and the
// check has failed.
#pragma once
#pragma GCC system_header // as Catch2 itself: its expressions look like mistakes to -Wparentheses

#include <catch2/catch.hpp>

namespace creel::test {

// One check while its expression is evaluated. It is an aggregate, so that its construction is not
// a call.
struct assertion {
    const char* macro;
    const char* file;
    std::size_t line;
    const char* text;
    Catch::ResultDisposition::Flags disposition;
    bool evaluated = false;

    // Reports to Catch2. If a REQUIRE does not hold, throws the exception that ends the test case.
    void check(const Catch::ITransientExpression& expression);

    template <typename T>
    void check(const Catch::ExprLhs<T>& value) {
        check(value.makeUnaryExpr());
    }

    ~assertion(); // if it was not evaluated, an exception unwinds, and the check has failed
};

} // namespace creel::test

#undef INTERNAL_CATCH_TEST
#define INTERNAL_CATCH_TEST(macro_name, result_disposition, ...)                                   \
    do {                                                                                           \
        ::creel::test::assertion creel_assertion{macro_name, __FILE__, __LINE__, #__VA_ARGS__,     \
                                                 result_disposition};                              \
        CATCH_INTERNAL_START_WARNINGS_SUPPRESSION                                                  \
        CATCH_INTERNAL_SUPPRESS_PARENTHESES_WARNINGS                                               \
        CATCH_INTERNAL_IGNORE_BUT_WARN(__VA_ARGS__); /* a comparison of signs, for example */      \
        creel_assertion.check(Catch::Decomposer() <= __VA_ARGS__);                                 \
        CATCH_INTERNAL_STOP_WARNINGS_SUPPRESSION                                                   \
    } while (false)
