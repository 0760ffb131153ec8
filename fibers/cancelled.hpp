// What is thrown when work is cancelled, and why it was.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

namespace creel {

enum class cancel_cause : std::uint8_t {
    requested,      // somebody called cancel()
    deadline,       // the deadline of a scope has passed
    sibling_failed, // another child, or the body, of the nursery failed
    signal,         // the process received SIGINT or SIGTERM
    shutdown,       // the runtime is ending
};

struct cancel_reason {
    cancel_cause cause = cancel_cause::requested;
    std::string text{};
    int signal_number = 0; // with cancel_cause::signal
};

// Unwinds a fiber whose scope was cancelled. Deliberately not a std::exception, so that
// `catch (const std::exception&)` cannot swallow it (Trio's Cancelled is a BaseException for the
// same reason). Let it pass, or rethrow it after cleaning up; the scope absorbs it.
class cancelled {
public:
    explicit cancelled(std::shared_ptr<const cancel_reason> reason) noexcept
        : reason_(std::move(reason)) {}
    cancelled(const cancelled&) = default;
    cancelled& operator=(const cancelled&) = default;
    virtual ~cancelled();

    [[nodiscard]] const cancel_reason& reason() const noexcept { return *reason_; }

private:
    std::shared_ptr<const cancel_reason> reason_; // never null; shared by all who are cancelled
};

// A loop (send_all, recv_exact) was cancelled after some bytes had moved.
class partial_cancelled final : public cancelled {
public:
    partial_cancelled(const cancelled& why, std::size_t bytes_moved) noexcept
        : cancelled(why), bytes_moved_(bytes_moved) {}

    [[nodiscard]] std::size_t bytes_moved() const noexcept { return bytes_moved_; }

private:
    std::size_t bytes_moved_;
};

// fail_after and fail_at: their own deadline ended the work.
class timed_out final : public std::runtime_error {
public:
    explicit timed_out(const std::string& what);
};

// The result was asked of work that was cancelled by hand or never started.
class task_cancelled final : public std::runtime_error {
public:
    explicit task_cancelled(const std::string& what);
};

} // namespace creel
