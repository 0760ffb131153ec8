#include <creel/io/detail/ring/kernel_ring.hpp>

#include <creel/fibers/fork_guard.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <utility>

#include <unistd.h>

#include <sys/resource.h>

namespace creel::io::detail {
namespace {

constinit thread_local kernel_ring* kept_ring = nullptr;
constinit thread_local bool keeps_no_ring = false; // the thread ends

// By all threads together: a quarter of the memory that the user may lock, in rings of the default
// sizes.
int most_kept_rings() noexcept {
    constexpr rlim_t ring_bytes = 136 * 1024;
    constexpr rlim_t most = 16;
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return most;
    return static_cast<int>(std::clamp<rlim_t>(limit.rlim_cur / (4 * ring_bytes), 1, most));
}
constinit std::atomic<int> kept_rings{0}; // of all threads

// The calling thread's kept ring, which becomes the caller's; null if it keeps none.
kernel_ring* take_kept() noexcept {
    kernel_ring* const kept = std::exchange(kept_ring, nullptr);
    if (kept != nullptr)
        kept_rings.fetch_sub(1);
    return kept;
}

struct kept_ring_closer {
    ~kept_ring_closer() {
        keeps_no_ring = true; // a run in the destructor of an older thread_local may still come
        kernel_ring::close_kept();
    }
};
thread_local kept_ring_closer closes_kept_ring;

} // namespace

// All kernel rings of the process: a forked child closes its copies of their descriptors.
struct kernel_ring::registry {
    static void enter(kernel_ring& r) noexcept {
        const std::lock_guard lock{mutex};
        r.next_ = first;
        if (first != nullptr)
            first->previous_ = &r;
        first = &r;
    }

    static void take_out(const kernel_ring& r) noexcept {
        const std::lock_guard lock{mutex};
        (r.previous_ != nullptr ? r.previous_->next_ : first) = r.next_;
        if (r.next_ != nullptr)
            r.next_->previous_ = r.previous_;
    }

    // In the child, in which this is the only thread. An open descriptor would keep the parent's
    // ring, and the memory that it locks, beyond its end.
    static void leave_to_parent() noexcept {
        for (kernel_ring* r = std::exchange(first, nullptr); r != nullptr; r = r->next_)
            r->leave_to_parent();
        delete take_kept();
        kept_rings.store(0);
    }

    static constinit std::mutex mutex;
    static constinit kernel_ring* first; // guarded by the mutex
    static const fork_guard in_forks;
};

constinit std::mutex kernel_ring::registry::mutex;
constinit kernel_ring* kernel_ring::registry::first = nullptr;
const fork_guard kernel_ring::registry::in_forks{mutex, &leave_to_parent};

kernel_ring::kernel_ring(ring_sizes wanted, bool at_once)
    : wanted_(wanted), wake_descriptor_(open_wake_descriptor()) {
    try {
        set_up_ring(uring_, wanted, at_once);
    } catch (...) {
        ::close(wake_descriptor_);
        throw;
    }
    // Entry i of the indirection array always names entry i. So later only the tail is stored.
    for (unsigned i = 0; i < uring_.sq.ring_entries; ++i)
        uring_.sq.array[i] = i;
    registry::enter(*this);
}

kernel_ring::~kernel_ring() {
    if (wake_descriptor_ < 0)
        return; // the parent's
    registry::take_out(*this);
    buffers_.reset();
    files_.end();
    close_uring(uring_);
    ::close(wake_descriptor_);
}

// The queues are not in this process: other memory may soon have their addresses.
void kernel_ring::leave_to_parent() noexcept {
    ::close(std::exchange(uring_.ring_fd, -1));
    ::close(std::exchange(wake_descriptor_, -1));
    uring_.enter_ring_fd = -1;
}

receive_buffers& kernel_ring::make_buffers() noexcept {
    if (!buffers_)
        buffers_.emplace(uring_);
    return *buffers_;
}

// A descriptor that has outlived its run is still in the table, which would keep its file open. The
// kernel may grant the next run what it has refused to this one.
void kernel_ring::forget_run() noexcept {
    files_.renew();
    if (buffers_ && !buffers_->usable())
        buffers_.reset();
}

std::unique_ptr<kernel_ring> kernel_ring::take(ring_sizes wanted) {
    if (kept_ring != nullptr && kept_ring->wanted_ == wanted) {
        std::unique_ptr<kernel_ring> kept{take_kept()};
        if (is_smaller(kept->uring_, wanted)) {
            try {
                return std::make_unique<kernel_ring>(wanted, true);
            } catch (const std::system_error&) { // memory is still short
            }
        }
        return kept;
    }
    close_kept(); // first, since the limits may not allow both
    return std::make_unique<kernel_ring>(wanted);
}

// No entry of the run that has ended can complete in the next one: the last completion of each has
// been reaped. A message that another thread has sent may still come. It names nothing, and makes
// the next run look for work once too often, as does the count of the eventfd.
void kernel_ring::keep(std::unique_ptr<kernel_ring> r) noexcept {
    if (keeps_no_ring)
        return;
    if (kept_rings.fetch_add(1) >= most_kept_rings()) {
        kept_rings.fetch_sub(1);
        return;
    }
    static_cast<void>(&closes_kept_ring); // makes it
    r->forget_run();
    close_kept();
    kept_ring = r.release();
}

void kernel_ring::close_kept() noexcept {
    delete take_kept();
}

} // namespace creel::io::detail
