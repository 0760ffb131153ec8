// Work that another thread asks of a run, and that the run does on its own thread: a copy of its
// fibers, its counters, a cancel by name.
//
// The requester posts it to the run's inbox. The run works on the stack of Boost's dispatcher,
// between two switches: there each fiber is parked or ready, its registers are saved, and no small
// stack of a fiber has to bear the work. It works in slices of some milliseconds, and lets its
// fibers run in between.
//
// The states, and the function that makes each transition:
//
//   posted --- 1 scheduler::add_request() ----------> taken  the run has it; a slice comes soon
//   taken ---- 2 go_on(), for each slice -----------> taken  `progress` counts
//   taken ---- 3 go_on(), the last slice -----------> done   the result belongs to the requester
//   posted, taken -- 4 scheduler::end_requests() ---> ended  the run has ended before
//   posted, taken -- 5 letting_go by the requester -> ended  by the run, at its next look, unless
//                                                            the work is owed
//
// Requester and run hold it together, and the last of them deletes it: a thread that is stalled may
// take it long after the requester has gone on.
#pragma once

#include <creel/fibers/detail/inspect/carrier_walk.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

namespace creel::detail {

class scheduler;

class run_request : inbox_node {
public:
    // A run is held up for no longer at a time.
    static constexpr duration longest_slice = std::chrono::milliseconds{5};

    enum class outcome : std::uint8_t {
        done,
        ended, // the run has ended
        late   // the run has made no progress for as long as the patience
    };

    // Waits for the work. The patience counts from the post: all runs that were asked at one time
    // have the same. Parks: it blocks the thread. Threads: the requester's.
    [[nodiscard]] outcome await(duration patience) noexcept { return await(patience, posted_at_); }
    // The same; the patience counts from `from` on.
    [[nodiscard]] outcome await(duration patience, time_point from) noexcept;

    // The requester's half of a request that is posted.
    struct letting_go {
        void operator()(run_request* r) const noexcept;
    };
    template <typename Request>
    using pointer = std::unique_ptr<Request, letting_go>;

    run_request(const run_request&) = delete;
    run_request& operator=(const run_request&) = delete;

protected:
    struct kind {
        // On the run's thread: one slice. True: there is no other. It does not switch.
        bool (*work)(run_request& self) noexcept;
        void (*destroy)(run_request* self) noexcept;
        bool is_owed = false; // also when no one waits for it any more
    };

    run_request(scheduler& home, const kind& what) noexcept;
    ~run_request() = default;

    // Once, to a run that is listed, and stays so meanwhile: see live_runs.hpp. Threads: any.
    void post() noexcept;

    [[nodiscard]] scheduler& home() const noexcept { return home_; }

    carrier_walk carriers; // for `work`

private:
    friend class scheduler;
    enum state : std::uint32_t { pending, done, ended };

    // On the run's thread.
    bool go_on() noexcept; // one slice; true: there is no other
    void tell_progress() noexcept;
    void finish(state how) noexcept;

    void release() noexcept;

    scheduler& home_;
    const kind& kind_;
    const time_point posted_at_ = clock::now();
    std::atomic<std::uint32_t> progress_{0}; // rises with each slice and with the end
    std::atomic<std::uint32_t> state_{pending};
    std::atomic<bool> given_up_{false};
    std::atomic<int> holders_{2};
    run_request* next_ = nullptr; // the run's
};

} // namespace creel::detail
