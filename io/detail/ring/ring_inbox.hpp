// The inbox of a ring: another thread posts a node, and the ring's thread delivers it.
//
//     open ── owner_ends() ──► closed        post() takes a node only while it is open
//
// The inbox of a scheduler serves the same purpose for fibers, but cannot replace this one:
//   * This one outlives its ring and says that the ring has ended. Then the poster does the work
//     itself: a stream may be dropped after the run in which it was used. A scheduler is reused by
//     the next run of any thread, and its inbox takes each node.
//   * A ring delivers until its own end, which comes after that of its scheduler. Until then its
//     standing receives work on the record that the node is about.
//   * In a forked child the inbox of a parent's ring refuses each node. Its mutex may be held by a
//     thread that is not in the child.
#pragma once

#include <creel/fibers/poller.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/process/fork_count.hpp>

#include <mutex>

namespace creel::io::detail {

class ring_inbox {
public:
    explicit ring_inbox(poller& owner) noexcept : owner_(&owner) {}

    // True if the owner will deliver the node, false if the owner has ended. Threads: any.
    bool post(inbox_node& node);
    [[nodiscard]] bool has_owner(); // Threads: any.
    // True if it was made before this process was forked: here it has no owner. Threads: any.
    [[nodiscard]] bool is_parents() const noexcept { return forks_ != fork_count(); }

    // The nodes are independent of each other: they come in any order. Threads: the owner's.
    void deliver() noexcept;
    void owner_ends() noexcept; // from here on nothing can be posted. Threads: the owner's.

private:
    std::mutex mutex_;
    const unsigned forks_ = fork_count();
    poller* owner_;                // guarded by mutex_; null once it has ended
    inbox_node* newest_ = nullptr; // guarded by mutex_
};

} // namespace creel::io::detail
