#include "support/check.hpp"

namespace creel::test {

namespace {
Catch::AssertionHandler handler_of(const assertion& a) {
    return {a.macro, Catch::SourceLineInfo{a.file, a.line}, a.text, a.disposition};
}
} // namespace

void assertion::check(const Catch::ITransientExpression& expression) {
    evaluated = true;
    auto handler = handler_of(*this);
    handler.handleExpr(expression);
    handler.complete();
}

assertion::~assertion() {
    if (!evaluated)
        static_cast<void>(handler_of(*this)); // a check that is not completed has failed
}

} // namespace creel::test
