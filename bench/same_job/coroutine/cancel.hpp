#pragma once

// Cancellation: each coroutine runs in a scope, which it inherits from the one that awaits it.
// Whatever waits enters its scope's list. cancel() reaches all of them, and all that wait in scopes
// inside; each of these awaits then throws operation_cancelled. A result that came before is kept.

#include "list.hpp"

#include <exception>

namespace same_job::coroutine {

class operation_cancelled : public std::exception {
public:
    [[nodiscard]] const char* what() const noexcept override { return "operation cancelled"; }
};

// Something that a scope can cancel. Its function must not resume a coroutine: cancel() is still at
// work on the list.
class cancel_entry : public list_node<cancel_entry> {
public:
    using function = void (*)(cancel_entry&) noexcept;
    explicit cancel_entry(function f) noexcept : function_(f) {}

private:
    friend class cancel_scope;
    function function_;
};

class cancel_scope : cancel_entry {
public:
    cancel_scope() noexcept : cancel_entry(&cancel_this) {}
    explicit cancel_scope(cancel_scope& parent) noexcept : cancel_scope() { enter(parent); }

    // Makes it an inner scope, before anything is in it.
    void enter(cancel_scope& parent) noexcept {
        cancelled_ = parent.cancelled_;
        if (!cancelled_)
            parent.entries_.push_back(*this);
    }

    [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
    // For an await that does not wait.
    void check() const {
        if (cancelled_)
            throw operation_cancelled{};
    }
    // For an await that will wait; it leaves with unlink(). Throws: operation_cancelled.
    void add(cancel_entry& e) {
        check();
        entries_.push_back(e);
    }

    void cancel() noexcept {
        cancelled_ = true;
        while (!entries_.empty()) {
            cancel_entry& e = entries_.pop_front();
            e.function_(e);
        }
    }

private:
    static void cancel_this(cancel_entry& e) noexcept { static_cast<cancel_scope&>(e).cancel(); }

    list<cancel_entry> entries_;
    bool cancelled_ = false;
};

// While it exists, a cancel of one scope cancels another, which need not be inside it.
class cancel_link : cancel_entry {
public:
    cancel_link(cancel_scope& from, cancel_scope& to) noexcept
        : cancel_entry(&cancel_other), to_(to) {
        if (from.cancelled())
            to.cancel();
        else
            from.add(*this);
    }

private:
    static void cancel_other(cancel_entry& e) noexcept {
        static_cast<cancel_link&>(e).to_.cancel();
    }

    cancel_scope& to_;
};

} // namespace same_job::coroutine
