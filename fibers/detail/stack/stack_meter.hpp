// Keeps the high-water marks of stacks, for each spawn site; see stack_use.hpp.
//
// A stack that no task has touched holds no pages. So the lowest page that the kernel holds for a
// stack is the mark. That mark is of one task only if the pages of earlier tasks have been given
// back. measure_ended() gives them back, and so a run measures from its beginning or not at all.
#pragma once

#include <creel/fibers/detail/stack/stack_pool.hpp>
#include <creel/fibers/stack_use.hpp>

#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>

namespace creel::detail {

struct task_record;

// Threads: its scheduler's own.
class stack_meter {
public:
    // Called on the stack itself, when its task has ended and no memory below is needed any more.
    void measure_ended(const task_record& t, stack_memory stack) noexcept;
    void measure_living(const task_record& t, stack_memory stack);

    // For debug mode, at the end of a run: a line on stderr for each spawn site of which a task has
    // used more than three quarters of its stack, the fullest first; at most 16 lines.
    void name_nearly_full() const noexcept;

    [[nodiscard]] const auto& uses() const noexcept { return uses_; }

private:
    using site = std::tuple<std::string_view, std::uint_least32_t, std::uint_least32_t>;
    std::map<site, stack_use> uses_;
};

} // namespace creel::detail
