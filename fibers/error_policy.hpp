// What a failing child does to its nursery.
#pragma once

#include <creel/fibers/task_info.hpp>

#include <exception>
#include <functional>

namespace creel {

namespace detail {
struct nursery_core;
}

class error_policy {
public:
    enum class kind_type : unsigned char { cancel, collect, report };
    using handler = std::function<void(std::exception_ptr, const task_info&)>;

    // The default: the first failure cancels the siblings.
    error_policy() = default;

    [[nodiscard]] kind_type kind() const noexcept { return kind_; }

private:
    friend error_policy collect();
    friend error_policy report(handler);
    friend struct detail::nursery_core;

    kind_type kind_ = kind_type::cancel;
    handler handler_{};
};

// Siblings go on; all errors are thrown at the end: one as it is, several as an exception_group,
// a `cancelled` that no scope absorbs only if there is nothing else.
// For groups of bounded size, for all of them are kept until then.
[[nodiscard]] error_policy collect();

// For servers: a child's error goes to the handler at once, is stored nowhere and cancels nobody;
// without a handler one line goes to stderr. The body's own error still cancels the children and
// is thrown. The handler runs on the failed child's fiber (for a child that never got a stack, on
// that of whoever waits for it), when what the child owned is gone and before it has ended: it may
// wait, sees the child's locals, may drop its task<R>, and holds up the nursery and get(). A cancel
// of the nursery ends it quietly; any other exception of its own ends the process.
[[nodiscard]] error_policy report(error_policy::handler handler = {});

} // namespace creel
