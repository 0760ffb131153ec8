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
#include <creel/fibers/held_wait.hpp>

#include <mutex>

namespace creel::sync {

struct once::caller final : list_waiter {
    explicit caller(const once& o) noexcept : list_waiter(kind), of(o) {}

    static party_number holder(const waiter& w) noexcept {
        const auto& self = static_cast<const caller&>(w);
        party_number found = 0;
        self.look_at_list([&](const wait_list&) { found = self.of.runner_; });
        return found;
    }
    static constexpr wait_kind kind{true, nullptr, &holder};

    const once& of;
    party_number party = this_party();
    scope_id within = this_scope();
    bool its_turn = false; // the runner before it has failed
    held_wait listed{*this};
};

bool once::begin() {
    caller me{*this};
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
