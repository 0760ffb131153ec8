// The reason of a cancel that may come when there is no memory. It is made as the program starts,
// or earlier if the constructor of a global object needs it.
#pragma once

#include <creel/fibers/cancelled.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>

namespace creel::detail {

// For namespace scope, `constinit`, with a `standing_reasons_made` behind it. It is never
// destroyed: a fiber of another thread may get it at exit. Threads: any.
class standing_reason {
public:
    constexpr standing_reason(cancel_cause cause, const char* text) noexcept
        : cause_(cause), text_(text) {}
    standing_reason(const standing_reason&) = delete;
    standing_reason& operator=(const standing_reason&) = delete;

    [[nodiscard]] std::shared_ptr<const cancel_reason> get() noexcept {
        const cancel_reason* known = made_.load(std::memory_order_acquire); // pairs with make()
        return {std::shared_ptr<void>{}, known != nullptr ? known : make()};
    }

private:
    // Without memory its text is "out of memory".
    const cancel_reason* make() noexcept;

    cancel_cause cause_;
    const char* text_;
    std::atomic<const cancel_reason*> made_{nullptr};
    alignas(cancel_reason) std::array<std::byte, sizeof(cancel_reason)> place_{};
};

// Makes the reasons as the program starts, when there is memory. It holds nothing itself.
struct standing_reasons_made {
    template <typename... Reasons>
    explicit standing_reasons_made(Reasons&... all) noexcept {
        (static_cast<void>(all.get()), ...);
    }
};

// The reason to give where none is known: cancel_cause::requested, without a text.
[[nodiscard]] std::shared_ptr<const cancel_reason> unknown_reason() noexcept;

} // namespace creel::detail
