// The reason of a cancel that may come when there is no memory: made as the program starts.
#pragma once

#include <creel/fibers/cancelled.hpp>

#include <memory>

namespace creel::detail {

// For namespace scope. Never destroyed: a fiber of another thread may be told it at exit.
class standing_reason {
public:
    standing_reason(cancel_cause cause, const char* text)
        : reason_(*new cancel_reason{cause, text, 0}) {}

    [[nodiscard]] std::shared_ptr<const cancel_reason> get() const noexcept {
        return {std::shared_ptr<void>{}, &reason_};
    }

private:
    const cancel_reason& reason_;
};

} // namespace creel::detail
