// The fibers that wait for one thing, first come first served: what queue and semaphore stand on.
// One scheduler only; nothing here is locked.
#pragma once

#include <creel/fibers/assert.hpp>
#include <creel/fibers/waiter.hpp>

#include <string>
#include <utility>

namespace demo {

class wait_list {
public:
    // One who waits; lives on the stack of its fiber.
    class entry : creel::waiter {
    public:
        explicit entry(wait_list& list) noexcept : creel::waiter(kind), list_(list) {}

    private:
        friend class wait_list;
        static const creel::waiter_kind kind;

        wait_list& list_;
        entry* previous_ = nullptr;
        entry* next_ = nullptr;
        bool linked_ = false;
    };

    // `what` is what is waited for, in words, for the dump; a literal.
    explicit wait_list(const char* what) noexcept : what_(what) {}
    ~wait_list() { CREEL_ASSERT(!first_, "somebody still waits"); }
    wait_list(const wait_list&) = delete;
    wait_list& operator=(const wait_list&) = delete;

    [[nodiscard]] entry* first() noexcept { return first_; }

    // Parks until serve() comes to this entry. Cancel: yes, and then nobody has served it; one who
    // was served before the cancel returns, so that nothing handed over is lost.
    void wait(entry& me) {
        link(me);
        if (creel::park(me) == creel::wake_reason::cancelled)
            creel::throw_cancelled();
    }

    // Takes the entry out of the list and wakes it. Give it what it waits for before.
    void serve(entry& who) noexcept {
        unlink(who);
        creel::wake(who);
    }

private:
    void link(entry& e) noexcept {
        e.linked_ = true;
        e.previous_ = last_;
        (last_ ? last_->next_ : first_) = &e;
        last_ = &e;
    }

    void unlink(entry& e) noexcept {
        (e.previous_ ? e.previous_->next_ : first_) = e.next_;
        (e.next_ ? e.next_->previous_ : last_) = e.previous_;
        e.linked_ = false;
    }

    entry* first_ = nullptr;
    entry* last_ = nullptr;
    const char* what_;
};

inline const creel::waiter_kind wait_list::entry::kind{
    .withdraw =
        [](creel::waiter& w, creel::wake_reason) noexcept {
            auto& me = static_cast<entry&>(w);
            if (!me.linked_)
                return creel::withdrawal::pending; // served: the wake is on its way
            me.list_.unlink(me);
            return creel::withdrawal::withdrawn;
        },
    .describe = [](const creel::waiter& w,
                   std::string& text) { text += static_cast<const entry&>(w).list_.what_; }};

} // namespace demo
