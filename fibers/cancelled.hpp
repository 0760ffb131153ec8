// The exceptions of cancelled work, and the reason of a cancel.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/time.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

namespace creel {

enum class cancel_cause : std::uint8_t {
    requested,      // a call of cancel()
    deadline,       // the deadline of a scope has passed
    sibling_failed, // another child, or the body, of the nursery failed
    signal,         // the process received SIGINT or SIGTERM
    shutdown,       // the runtime is ending
    deadlock,       // fibers wait for each other, and only a cancel can end that
};

struct cancel_reason {
    cancel_cause cause = cancel_cause::requested;
    std::string text{};
    int signal_number = 0; // with cancel_cause::signal
};

// Unwinds a fiber when its scope is cancelled. It is not a std::exception, so that
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
    std::shared_ptr<const cancel_reason> reason_; // never null; all throws of one cancel share it
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

// fail_after and fail_at: their own deadline ended the work. what() is
// "timed out after 2s (server.cpp:42)". Copying it throws nothing. If there is no memory for the
// long what(), the exception has a short one, and everything else.
class timed_out final : public std::runtime_error {
public:
    // `limit`: none for fail_at. `why`: not null.
    timed_out(std::shared_ptr<const cancel_reason> why, std::optional<duration> limit,
              time_point deadline, const std::source_location& where) noexcept;
    timed_out(const timed_out&) noexcept = default;
    timed_out& operator=(const timed_out&) noexcept = default;
    ~timed_out() override;

    // The call of fail_after or fail_at.
    [[nodiscard]] const std::source_location& where() const noexcept { return where_; }
    // The duration given to fail_after; empty for fail_at.
    [[nodiscard]] std::optional<duration> limit() const noexcept { return limit_; }
    // The last deadline of the scope, even if set_deadline() has moved it.
    [[nodiscard]] time_point deadline() const noexcept { return deadline_; }
    // Its cause is cancel_cause::deadline.
    [[nodiscard]] const cancel_reason& reason() const noexcept { return *reason_; }

    [[nodiscard]] const char* what() const noexcept override;

private:
    std::shared_ptr<const cancel_reason> reason_;
    std::optional<duration> limit_;
    time_point deadline_;
    std::source_location where_;
};

// There is no value, because the work was cancelled or never started. what() is
// "cancelled: the reason's text (server.cpp:42)". Construction and copies behave as those of
// timed_out.
class task_cancelled final : public std::runtime_error {
public:
    // `why`: not null. `event`: a string literal, the beginning of what().
    task_cancelled(std::shared_ptr<const cancel_reason> why, const std::source_location& where,
                   const char* event = "cancelled") noexcept;
    task_cancelled(const task_cancelled&) noexcept = default;
    task_cancelled& operator=(const task_cancelled&) noexcept = default;
    ~task_cancelled() override;

    // The line that spawned the child, opened the nursery (for the root: called io::run), or called
    // fail_after or shield.
    [[nodiscard]] const std::source_location& where() const noexcept { return where_; }
    // Why it was cancelled.
    [[nodiscard]] const cancel_reason& reason() const noexcept { return *reason_; }

    [[nodiscard]] const char* what() const noexcept override;

private:
    std::shared_ptr<const cancel_reason> reason_;
    std::source_location where_;
    const char* event_;
};

} // namespace creel
