#include <creel/fibers/exception_group.hpp>

#include "support/check.hpp"

#include <creel/fibers/cancelled.hpp>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

std::exception_ptr error(const char* what) {
    return std::make_exception_ptr(std::runtime_error(what));
}

struct silent : std::exception {
    [[nodiscard]] const char* what() const noexcept override { return nullptr; }
};

} // namespace

TEST_CASE("a group dissolves the groups in it, drops null errors, and counts the same one once") {
    const auto a = error("a");
    const auto b = error("b");
    const auto inner = std::make_exception_ptr(creel::exception_group{{a, b}});
    const creel::exception_group group{{nullptr, inner, error("c"), b, inner}};
    REQUIRE(group.errors().size() == 3);
    CHECK(group.errors()[0] == a);
    CHECK(group.errors()[1] == b);
    CHECK(std::string{group.what()} == "3 errors: [a] [b] [c]");
}

TEST_CASE("an exception_group is copied without throwing and keeps its errors when it is moved") {
    static_assert(std::is_nothrow_copy_constructible_v<creel::exception_group>);
    creel::exception_group group{{error("a"), error("b")}};
    auto& same = group;
    group = std::move(same);
    const creel::exception_group taken{std::move(group)};
    CHECK(taken.errors().size() == 2);
    CHECK(group.errors() == taken.errors()); // NOLINT(bugprone-use-after-move)
    CHECK(std::string{group.what()} == taken.what());
}

TEST_CASE("what() of a large exception_group stays short") {
    std::vector<std::exception_ptr> many;
    for (int i = 0; i < 1000; ++i)
        many.push_back(error("x"));
    const creel::exception_group group{many};
    CHECK(group.errors().size() == 1000);
    CHECK(std::string{group.what()}.find("and 984 more") != std::string::npos);
}

TEST_CASE("any exception is described: by its text, by its type, or by why it was cancelled") {
    CHECK(creel::describe_exception(error("boom")) == "boom");
    CHECK(creel::describe_exception(std::make_exception_ptr(7)) == "an exception of type int");
    CHECK(creel::describe_exception(nullptr) == "no exception");
    const std::string by_type = creel::describe_exception(std::make_exception_ptr(silent{}));
    CHECK_THAT(by_type, Catch::StartsWith("an exception of type ") && Catch::EndsWith("silent"));
    const creel::cancelled enough{std::make_shared<const creel::cancel_reason>(
        creel::cancel_reason{creel::cancel_cause::requested, "enough", 0})};
    CHECK(creel::describe_exception(std::make_exception_ptr(enough)) == "cancelled: enough");
}
