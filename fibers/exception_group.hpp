// exception_group: several failures of one nursery, thrown as one exception.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace creel {

// It is flat: the members of a group inside it are its members, and the same exception counts once.
// A group that a nursery throws has no `cancelled` among its errors: a real error displaces it.
// what() lists the messages of the first 16 errors and counts the others. Copies share the errors,
// and copying throws nothing.
class exception_group final : public std::exception {
public:
    explicit exception_group(const std::vector<std::exception_ptr>& errors);

    // A move is a copy: no group is ever empty.
    exception_group(const exception_group&) noexcept = default;
    exception_group& operator=(const exception_group&) noexcept = default;
    ~exception_group() override;

    [[nodiscard]] const std::vector<std::exception_ptr>& errors() const noexcept {
        return all_->errors;
    }
    [[nodiscard]] const char* what() const noexcept override { return all_->what.c_str(); }

private:
    struct content {
        std::vector<std::exception_ptr> errors; // none of them null or a group
        std::string what;
    };
    static content describe(const std::vector<std::exception_ptr>& errors);

    std::shared_ptr<const content> all_;
};

// The message of any exception: what() of a std::exception, or the name of the type, or "unknown".
[[nodiscard]] std::string describe_exception(const std::exception_ptr& error);

namespace detail {
// The type of the exception that is being handled: "std::system_error".
[[nodiscard]] std::string type_name_in_flight();
} // namespace detail

} // namespace creel
