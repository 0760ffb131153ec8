// How another thread reaches a ring's own thread: it posts mail, which is delivered there.
#pragma once

#include <creel/fibers/poller.hpp>
#include <creel/io/detail/process/fork_count.hpp>

#include <mutex>

namespace creel::io::detail {

struct mail {
    mail* next_mail = nullptr;
    void (*deliver)(mail&) noexcept = nullptr; // on the owner's thread
};

// Outlives its ring, for those who may come late: a stream dropped on another thread.
class mailbox {
public:
    explicit mailbox(poller& owner) noexcept : owner_(&owner) {}

    // True if the owner will deliver it, false if there is no owner any more. Threads: any.
    bool post(mail& m);
    [[nodiscard]] bool has_owner(); // Threads: any.
    // Made before this process was forked: here there is no owner. Threads: any.
    [[nodiscard]] bool is_parents() const noexcept { return forks_ != fork_count(); }

    // Threads: the owner's.
    void deliver() noexcept;
    void owner_ends() noexcept; // from here on nothing can be posted

private:
    std::mutex mutex_;
    const unsigned forks_ = fork_count();
    poller* owner_;         // guarded by mutex_; null once it has ended
    mail* first_ = nullptr; // guarded by mutex_
};

} // namespace creel::io::detail
