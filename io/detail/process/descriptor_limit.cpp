#include <creel/io/detail/process/descriptor_limit.hpp>

#include <creel/fibers/fork_guard.hpp>

#include <mutex>

#include <sys/resource.h>

namespace creel::io::detail {
namespace {

constinit std::mutex limit_mutex;
constinit rlim_t limit_before = 0; // guarded by limit_mutex
constinit rlim_t limit_raised = 0; // guarded by limit_mutex; 0: the limit was not raised

// Runs in the child. If the program has changed the limit since it was raised, the limit stays.
void give_limit_back() noexcept {
    rlimit limit{};
    if (limit_raised != 0 && ::getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur == limit_raised) {
        limit.rlim_cur = limit_before;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    limit_raised = 0;
}

const fork_guard limit_in_forks{limit_mutex, &give_limit_back};

} // namespace

void raise_descriptor_limit() noexcept {
    const std::lock_guard lock{limit_mutex};
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit_before = before;
    limit_raised = limit.rlim_cur;
}

} // namespace creel::io::detail
