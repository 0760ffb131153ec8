#pragma once

// An await of one operation of the ring. Its coroutine goes on when the kernel has let go of it:
// after the operation's completion, and that of a cancel if one was asked for.

#include "loop.hpp"

#include <cerrno>
#include <system_error>

namespace same_job::coroutine {

class operation : completion, cancel_entry {
public:
    operation(const operation&) = delete;
    operation& operator=(const operation&) = delete;

    [[nodiscard]] bool await_ready() const noexcept { return false; }

protected:
    operation() noexcept : completion{&completed}, cancel_entry(&cancel_this) {}
    ~operation() = default;

    // The entry to fill in. Throws: operation_cancelled.
    [[nodiscard]] io_uring_sqe& begin(std::coroutine_handle<> waiting, cancel_scope& scope) {
        scope.add(*this);
        waiting_ = waiting;
        under_way_ = true;
        return loop::current().entry(*this);
    }

    // Throws: operation_cancelled; std::system_error that names the call.
    int result(const char* call) const {
        if (result_ == -ECANCELED)
            throw operation_cancelled{};
        if (result_ < 0)
            throw std::system_error{-result_, std::system_category(), call};
        return result_;
    }

private:
    static void completed(completion& c, int result, unsigned flags) {
        auto& self = static_cast<operation&>(c);
        if ((flags & loop::cancel_flag) != 0) {
            self.cancelling_ = false;
            // The kernel was just about to look at the descriptor, and did not find the operation.
            // It may go on to wait, so the cancel is asked for again.
            if (result == -ENOENT && self.under_way_)
                cancel_this(self);
        } else {
            self.under_way_ = false;
            self.unlink();
            self.result_ = result;
        }
        if (!self.under_way_ && !self.cancelling_)
            self.waiting_.resume();
    }

    static void cancel_this(cancel_entry& e) noexcept {
        auto& self = static_cast<operation&>(e);
        self.cancelling_ = true;
        loop::current().cancel(self);
    }

    std::coroutine_handle<> waiting_ = nullptr;
    int result_ = 0;
    bool under_way_ = false;
    bool cancelling_ = false;
};

} // namespace same_job::coroutine
