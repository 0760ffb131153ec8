// The states of a once, and its transitions:
//
//     idle --1--> running --2--> done
//       ^          |   ^ |
//       +----4-----+   +3+
//
//     1  begin(): the first caller runs its function.
//     2  end(true): the function has returned; all waiters go on. Final.
//     3  end(false), and callers wait: the turn goes to the caller that has waited longest, so that
//        no later call comes in between.
//     4  end(false), and no caller waits: the next call is the first again.
#include <creel/sync/once.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>

namespace creel::sync {

struct once::caller : list_waiter {
    caller() noexcept : list_waiter(plain_wait) {}
    party_number party = this_party();
    scope_id within = this_scope();
    bool its_turn = false; // the runner before it has failed
};

bool once::begin() {
    caller me;
    const wait_label label = lock_.label();
    party_number runner = 0;
    scope_id within = nullptr;
    {
        const std::lock_guard hold{lock_};
        if (done_.load(std::memory_order_relaxed))
            return false;
        CREEL_ASSERT(runner_ != me.party,
                     lock_.says("called again by the function that it calls").c_str());
        if (runner_ == 0) {
            runner_ = me.party;
            within_ = me.within;
            return true;
        }
        runner = runner_;
        within = within_;
        waiting_.push_back(me);
    }
    warn_if_ancestor_waits(
        label, runner, within,
        "do not call a once inside the function that it calls, nor in its children");
    me.wait();
    return me.its_turn;
}

// A caller that has failed hands its turn to the caller that has waited longest, so that no later
// call comes in between.
void once::end(bool succeeded) noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    runner_ = 0;
    if (succeeded) {
        done_.store(true, std::memory_order_release);
        waiting_.take_all(to_wake);
        return;
    }
    ++failed_;
    if (auto* next = static_cast<caller*>(waiting_.take_front())) {
        next->its_turn = true;
        runner_ = next->party;
        within_ = next->within;
        to_wake.add(*next);
    }
}

once_statistics once::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {done(), runner_ != 0, waiting_.size(), failed_};
}

} // namespace creel::sync
