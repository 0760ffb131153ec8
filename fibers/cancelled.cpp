#include <creel/fibers/cancelled.hpp>

#include <creel/fibers/detail/report/text.hpp>

#include <new>
#include <type_traits>

namespace creel {

// An exception must not throw another while it is copied.
static_assert(std::is_nothrow_copy_constructible_v<cancelled> &&
              std::is_nothrow_copy_constructible_v<partial_cancelled> &&
              std::is_nothrow_copy_constructible_v<timed_out> &&
              std::is_nothrow_copy_constructible_v<task_cancelled>);

namespace {

// Without memory the text is empty: that needs none.
template <typename MakeText>
std::runtime_error error_with(MakeText make_text) noexcept {
    try {
        return std::runtime_error{make_text()};
    } catch (const std::bad_alloc&) {
        return std::runtime_error{""};
    }
}

std::string place_in_text(const std::source_location& where) {
    return where.line() != 0 ? " (" + detail::to_text(where) + ')' : std::string{};
}

const char* text_or(const std::runtime_error& full, const char* brief) noexcept {
    const char* const text = full.std::runtime_error::what();
    return *text != 0 ? text : brief;
}

} // namespace

cancelled::~cancelled() = default;

timed_out::timed_out(std::shared_ptr<const cancel_reason> why, std::optional<duration> limit,
                     time_point deadline, const std::source_location& where) noexcept
    : std::runtime_error(error_with([&] {
          return "timed out " +
                 (limit ? "after " + detail::to_text(*limit) : std::string{"at its deadline"}) +
                 place_in_text(where);
      })),
      reason_(std::move(why)),
      limit_(limit),
      deadline_(deadline),
      where_(where) {}

timed_out::~timed_out() = default;

const char* timed_out::what() const noexcept {
    return text_or(*this, "timed out");
}

task_cancelled::task_cancelled(std::shared_ptr<const cancel_reason> why,
                               const std::source_location& where, const char* event) noexcept
    : std::runtime_error(error_with([&] {
          return event + (why->text.empty() ? std::string{} : ": " + why->text) +
                 place_in_text(where);
      })),
      reason_(std::move(why)),
      where_(where),
      event_(event) {}

task_cancelled::~task_cancelled() = default;

const char* task_cancelled::what() const noexcept {
    return text_or(*this, event_);
}

} // namespace creel
