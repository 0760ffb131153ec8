#include <creel/io/detail/ring/ring_setup.hpp>
#include <creel/io/error.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <linux/capability.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel::io::detail {
namespace {

constexpr unsigned largest_ring = 32768; // IORING_MAX_ENTRIES; completions: twice that

// While there is no locked memory. Each pause is twice the one before. On a busy machine, with 8
// MiB of rings that ended together, the first ring could be had again after 30 ms (median).
constexpr std::chrono::milliseconds first_memory_pause{1};
constexpr std::chrono::milliseconds longest_memory_pause{64};

std::atomic<unsigned> withheld{0}; // of newer_feature, combined by |

// A ring may get the addresses of the queues of a closed ring. The kernel orders the two, but by
// system calls of liburing's own that TSan does not see. This counter tells TSan: a release when a
// ring closes, an acquire when one opens.
std::atomic<unsigned> rings_closed{0};

constexpr unsigned register_send_msg_ring = 31; // IORING_REGISTER_SEND_MSG_RING: newer than
                                                // liburing 2.3

// Returns 0 or an error number.
int try_message(int ring_descriptor, std::uint64_t user_data) noexcept {
    io_uring_sqe entry{};
    entry.opcode = IORING_OP_MSG_RING; // and IORING_MSG_DATA, which is 0
    entry.fd = ring_descriptor;
    entry.off = user_data;
    return ::syscall(SYS_io_uring_register, -1, register_send_msg_ring, &entry, 1) < 0 ? errno : 0;
}

int first_number_in(const char* file) {
    int value = 0;
    std::ifstream{file} >> value;
    return value;
}

// The kernel asks for CAP_SYS_ADMIN in the first user namespace, which is the only one that maps
// all ids.
bool is_administrator() {
    unsigned inside = 0;
    unsigned outside = 0;
    unsigned long long count = 0;
    std::ifstream{"/proc/self/uid_map"} >> inside >> outside >> count;
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    return inside == 0 && outside == 0 && count == 0xffff'ffffULL &&
           ::syscall(SYS_capget, &header, sets.data()) == 0 &&
           (sets[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}

bool is_in_group(int group) {
    if (group < 0)
        return false;
    std::vector<gid_t> groups(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
    groups.resize(static_cast<std::size_t>(
        std::max(::getgroups(static_cast<int>(groups.size()), groups.data()), 0)));
    groups.push_back(::getegid());
    return std::find(groups.begin(), groups.end(), static_cast<gid_t>(group)) != groups.end();
}

std::string explained(int error_number, const char* call) {
    refusal r{error_number, call};
    if (error_number == EPERM) {
        r.sysctl = first_number_in("/proc/sys/kernel/io_uring_disabled");
        r.exempt =
            is_administrator() || is_in_group(first_number_in("/proc/sys/kernel/io_uring_group"));
    }
    return text_of(r);
}

ring_sizes within_limits(ring_sizes wanted) noexcept {
    ring_sizes s{wanted.submissions != 0 ? wanted.submissions : default_ring.submissions,
                 wanted.completions != 0 ? wanted.completions : default_ring.completions};
    s.submissions = std::bit_ceil(std::min(s.submissions, largest_ring));
    s.completions = std::max(std::min(s.completions, 2 * largest_ring), s.submissions);
    return s;
}

// A size that is no larger than the smallest stays.
ring_sizes halved(ring_sizes s) {
    return {std::max(s.submissions / 2, std::min(s.submissions, smallest_ring.submissions)),
            std::max(s.completions / 2, std::min(s.completions, smallest_ring.completions))};
}

int open_sized(io_uring& uring, ring_sizes sizes) noexcept {
    io_uring_params parameters{};
    // Linux 6.1, the oldest that creel supports, has all of them. So there is no fallback.
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP |
                       IORING_SETUP_CQSIZE;
    parameters.cq_entries = sizes.completions;
    return open_uring(uring, sizes.submissions, parameters);
}

int open_with_patience(io_uring& uring, ring_sizes sizes) {
    int result = open_sized(uring, sizes);
    for (auto pause = first_memory_pause; result == -ENOMEM && pause <= longest_memory_pause;
         pause *= 2) {
        std::this_thread::sleep_for(pause);
        result = open_sized(uring, sizes);
    }
    while (result == -ENOMEM && halved(sizes) != sizes) {
        sizes = halved(sizes);
        result = open_sized(uring, sizes);
    }
    return result;
}

} // namespace

std::string text_of(const refusal& r) {
    const std::string call = r.call;
    if (r.error_number == EMFILE)
        return "io::run: " + call +
               " was refused, for the process has no descriptor left; raise its limit of open "
               "files (ulimit -n, or LimitNOFILE= of systemd)";
    if (r.error_number == ENFILE)
        return "io::run: " + call +
               " was refused, for the system has no open file left; raise the sysctl fs.file-max";
    std::string what = "io::run: io_uring is not available: " + call + " was refused";
    if (r.sysctl == 1 && !r.exempt)
        return what + " by the sysctl kernel.io_uring_disabled=1; run as a member of the group "
                      "kernel.io_uring_group names, or set it to 0 (sysctl -w "
                      "kernel.io_uring_disabled=0)";
    if (r.sysctl > 1)
        return what + " by the sysctl kernel.io_uring_disabled=2; set it to 0 (sysctl -w "
                      "kernel.io_uring_disabled=0)";
    if (r.error_number == EPERM || r.error_number == EACCES)
        return what + " by a seccomp filter, as container runtimes install by default; allow "
                      "io_uring_setup, io_uring_enter and io_uring_register in its profile "
                      "(docker run --security-opt seccomp=PROFILE.json)";
    if (r.error_number == ENOSYS)
        return what + " as unknown; either the kernel has no io_uring (creel needs Linux 6.1), or "
                      "a seccomp filter hides it: allow io_uring_setup, io_uring_enter and "
                      "io_uring_register in the container's profile";
    if (r.error_number == ENOMEM)
        return what + ", also for the smallest ring, for the user may lock no more memory, or the "
                      "control group has none left; raise the limit of locked memory (ulimit -l, "
                      "or LimitMEMLOCK= of systemd) or that of the control group, or let all runs "
                      "have smaller rings (run_options::ring_entries, completion_entries)";
    if (r.error_number == EINVAL)
        return what + " with these flags; creel needs Linux 6.1 or later";
    return what;
}

int open_uring(io_uring& uring, unsigned entries, io_uring_params& parameters) noexcept {
    const int result = io_uring_queue_init_params(entries, &uring, &parameters);
    static_cast<void>(rings_closed.load(std::memory_order_acquire));
    // The queues are shared memory: the kernel would carry out in the parent the entries that a
    // forked child writes.
    if (result == 0)
        static_cast<void>(io_uring_ring_dontfork(&uring));
    return result;
}

void close_uring(io_uring& uring) noexcept {
    rings_closed.fetch_add(1, std::memory_order_release);
    io_uring_queue_exit(&uring);
}

bool is_smaller(const io_uring& uring, ring_sizes wanted) noexcept {
    return uring.sq.ring_entries < within_limits(wanted).submissions ||
           uring.cq.ring_entries < within_limits(wanted).completions;
}

void set_up_ring(io_uring& uring, ring_sizes wanted, bool at_once) {
    const ring_sizes sizes = within_limits(wanted);
    if (const int result = at_once ? open_sized(uring, sizes) : open_with_patience(uring, sizes);
        result < 0)
        throw_error(-result, explained(-result, "io_uring_setup"));

    // Saves the kernel a lookup of the descriptor at each enter. If the kernel refuses, the ring
    // works all the same.
    static_cast<void>(io_uring_register_ring_fd(&uring));

    // The first enter of the run cannot throw, so this looks for a refusal now.
    const unsigned flags = uring.enter_ring_fd != uring.ring_fd ? IORING_ENTER_REGISTERED_RING : 0U;
    const int entered = io_uring_enter(static_cast<unsigned>(uring.enter_ring_fd), 0, 0,
                                       flags | IORING_ENTER_GETEVENTS, nullptr);
    if (entered < 0 && entered != -EINTR) {
        close_uring(uring);
        throw_error(-entered, explained(-entered, "io_uring_enter"));
    }
}

// Blocking: on a nonblocking descriptor io_uring answers EAGAIN instead of waiting.
int open_wake_descriptor() {
    const int descriptor = ::eventfd(0, EFD_CLOEXEC);
    if (descriptor < 0) {
        const int reason = errno;
        throw_error(reason, explained(reason, "eventfd"));
    }
    return descriptor;
}

void withhold(newer_feature f) noexcept {
    withheld.fetch_or(static_cast<unsigned>(f));
}

bool is_withheld(newer_feature f) noexcept {
    return (withheld.load() & static_cast<unsigned>(f)) != 0;
}

bool kernel_sends_messages() noexcept {
    // A kernel that has it looks for the ring. A kernel without it says EINVAL, a filter EPERM.
    static const bool sends = try_message(-1, 0) == EBADF;
    return sends;
}

bool send_message(int ring_descriptor, std::uint64_t user_data) noexcept {
    return try_message(ring_descriptor, user_data) == 0;
}

} // namespace creel::io::detail
