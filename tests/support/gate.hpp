// The simplest primitive on the park protocol: a fiber or thread that passes waits until the gate
// is opened. For tests of fibers/, which is below sync/. It works between threads.
#pragma once

#include <creel/fibers/waiter.hpp>

#include <list>
#include <mutex>

namespace creel::test {

class gate {
public:
    // Parks until the gate is open. Cancel: yes.
    void pass() {
        creel::check_cancel();
        gate_waiter w{*this};
        {
            const std::lock_guard lock{mutex_};
            if (open_)
                return;
            w.place = waiting_.insert(waiting_.end(), &w);
            w.linked = true;
        }
        if (creel::park(w) == creel::wake_reason::cancelled)
            creel::throw_cancelled();
    }

    // The same with a timer of its own. Returns false if the timer was first.
    bool pass_until(creel::time_point deadline) {
        gate_waiter w{*this};
        {
            const std::lock_guard lock{mutex_};
            if (open_)
                return true;
            w.place = waiting_.insert(waiting_.end(), &w);
            w.linked = true;
        }
        const auto reason = creel::park_until(w, deadline);
        if (reason == creel::wake_reason::cancelled)
            creel::throw_cancelled();
        return reason == creel::wake_reason::signalled;
    }

    // Lets all waiters and all later callers pass. Threads: any.
    void open() {
        std::list<gate_waiter*> taken;
        {
            const std::lock_guard lock{mutex_};
            open_ = true;
            taken.swap(waiting_);
            for (gate_waiter* w : taken)
                w->linked = false;
        }
        for (gate_waiter* w : taken)
            creel::wake(*w);
    }

    // Lets the oldest waiter pass. Returns false if there is none. Threads: any.
    bool let_one_pass() {
        gate_waiter* first = nullptr;
        {
            const std::lock_guard lock{mutex_};
            if (waiting_.empty())
                return false;
            first = waiting_.front();
            waiting_.pop_front();
            first->linked = false;
        }
        creel::wake(*first);
        return true;
    }

    [[nodiscard]] std::size_t waiting() {
        const std::lock_guard lock{mutex_};
        return waiting_.size();
    }

private:
    struct gate_waiter : creel::waiter {
        static creel::withdrawal withdraw(creel::waiter& w, creel::wake_reason) noexcept {
            auto& self = static_cast<gate_waiter&>(w);
            const std::lock_guard lock{self.owner->mutex_};
            if (!self.linked)
                return creel::withdrawal::pending; // it was taken, and its wake is on the way
            self.owner->waiting_.erase(self.place);
            return creel::withdrawal::withdrawn;
        }
        static void describe(const creel::waiter&, std::string& text) { text += "a gate"; }
        static constexpr creel::waiter_kind table{&withdraw, &describe};

        explicit gate_waiter(gate& g) noexcept : waiter(table), owner(&g) {}
        gate* owner;
        std::list<gate_waiter*>::iterator place{};
        bool linked = false;
    };

    std::mutex mutex_;
    bool open_ = false;               // guarded by mutex_, as is the list
    std::list<gate_waiter*> waiting_; // oldest first
};

} // namespace creel::test
