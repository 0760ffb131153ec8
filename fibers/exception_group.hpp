// Several failures of one nursery, thrown as one.
#pragma once

#include <exception>
#include <string>
#include <vector>

namespace creel {

// Flat: a group inside a group is dissolved into it, and the same exception counts once. One that a
// nursery throws has no `cancelled` among its errors: that is dropped beside a real one.
// what() lists the messages of the first 16 and counts the others.
class exception_group final : public std::exception {
public:
    explicit exception_group(const std::vector<std::exception_ptr>& errors);

    [[nodiscard]] const std::vector<std::exception_ptr>& errors() const noexcept { return errors_; }
    [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }

private:
    std::vector<std::exception_ptr> errors_; // none of them null or a group
    std::string what_;
};

// The message of any exception: what() of a std::exception, and for want of one the type's name or
// "unknown".
[[nodiscard]] std::string describe_exception(const std::exception_ptr& error);

} // namespace creel
