#include "loop.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <sys/mman.h>
#include <sys/resource.h>

namespace same_job::coroutine {
namespace {

constexpr unsigned submission_entries = 1024;
constexpr unsigned completion_entries = 4096;
constexpr rlim_t most_files = 32768; // of the file table
constexpr std::size_t least_between_polls = 64;

[[noreturn]] void fail(int error, const char* call) {
    throw std::system_error{error, std::system_category(), call};
}

} // namespace

buffer_pool::buffer_pool(io_uring& ring) {
    void* const memory = mmap(nullptr, queue_bytes + count * stride_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail(errno, "mmap");
    queue_ = static_cast<io_uring_buf_ring*>(memory);
    memory_ = static_cast<std::byte*>(memory) + queue_bytes;
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
    registration.ring_entries = count;
    registration.bgid = group;
    if (const int error = io_uring_register_buf_ring(&ring, &registration, 0); error < 0)
        fail(-error, "io_uring_register_buf_ring");
    io_uring_buf_ring_init(queue_);
    for (unsigned id = 0; id < count; ++id)
        give_back(id);
}

buffer_pool::~buffer_pool() {
    munmap(queue_, queue_bytes + count * stride_bytes);
}

void buffer_pool::give_back(unsigned id) noexcept {
    io_uring_buf_ring_add(queue_, memory_ + id * stride_bytes, buffer_bytes,
                          static_cast<unsigned short>(id), io_uring_buf_ring_mask(count), 0);
    io_uring_buf_ring_advance(queue_, 1);
}

loop::loop() {
    io_uring_params parameters{};
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    parameters.cq_entries = completion_entries;
    if (const int error = io_uring_queue_init_params(submission_entries, &ring_, &parameters);
        error < 0)
        fail(-error, "io_uring_queue_init_params");
    if (const int error = io_uring_register_ring_fd(&ring_); error < 0)
        fail(-error, "io_uring_register_ring_fd");
    buffers_.emplace(ring_);
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    const auto slots = static_cast<unsigned>(std::min(limit.rlim_cur, most_files));
    if (const int error = io_uring_register_files_sparse(&ring_, slots); error < 0)
        fail(-error, "io_uring_register_files_sparse");
    for (auto slot = static_cast<int>(slots); slot > 0; --slot)
        free_slots_.push_back(slot - 1);
    current_ = this;
}

loop::~loop() {
    current_ = nullptr;
    io_uring_queue_exit(&ring_);
}

io_uring_sqe& loop::entry(completion& c) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    while (entry == nullptr) { // the queue is full
        enter(false);
        entry = io_uring_get_sqe(&ring_);
    }
    // The preparing functions of liburing leave it alone.
    io_uring_sqe_set_data(entry, &c);
    return *entry;
}

void loop::cancel(completion& c) {
    io_uring_sqe& e = entry(c);
    io_uring_prep_cancel64(&e, reinterpret_cast<std::uintptr_t>(&c), 0);
    io_uring_sqe_set_data64(&e, reinterpret_cast<std::uintptr_t>(&c) | cancel_tag);
}

int loop::enter_file(int fd) {
    if (free_slots_.empty())
        return -1;
    const int slot = free_slots_.back();
    if (io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &fd, 1) != 1)
        return -1;
    free_slots_.pop_back();
    return slot;
}

void loop::leave_file(int slot) noexcept {
    int none = -1;
    io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &none, 1);
    free_slots_.push_back(slot);
}

// Those that the last completions made ready, then those that these make ready, and so on for the
// first 64: what one batch of completions leads to is submitted together, as on creel's loop.
void loop::resume_ready() {
    std::size_t resumed = 0;
    do {
        running_.swap(ready_);
        for (const auto coroutine : running_)
            coroutine.resume();
        resumed += running_.size();
        running_.clear();
    } while (!ready_.empty() && resumed < least_between_polls);
}

void loop::poll() {
    enter(ready_.empty());
    reap();
    if (!timers_.empty())
        timers_.fire(clock::now());
}

// One system call at most: it submits all entries, lets the kernel work on its completions, and
// waits if there is nothing else to do.
void loop::enter(bool wait) {
    int error = 0;
    if (!wait || io_uring_cq_ready(&ring_) != 0) {
        const unsigned kernel_wants =
            IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
        if (kernel_wants != 0 || io_uring_sq_ready(&ring_) != 0)
            error = io_uring_submit_and_get_events(&ring_);
    } else if (timers_.empty()) {
        error = io_uring_submit_and_wait(&ring_, 1);
    } else {
        const auto left = std::max(timers_.first() - clock::now(), clock::duration::zero());
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
        __kernel_timespec timeout{seconds.count(), (left - seconds).count()};
        io_uring_cqe* first = nullptr;
        error = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
    }
    if (error < 0 && error != -EINTR && error != -ETIME && error != -EBUSY && error != -EAGAIN) {
        std::fprintf(stderr, "io_uring_enter: %s\n", std::strerror(-error));
        std::abort(); // coroutines wait that nothing can resume
    }
}

void loop::reap() {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
        ++count;
        const std::uint64_t data = cqe->user_data;
        auto& c = *reinterpret_cast<completion*>(static_cast<std::uintptr_t>(data & ~cancel_tag));
        c.complete(c, cqe->res, (data & cancel_tag) != 0 ? cancel_flag : cqe->flags);
    }
    io_uring_cq_advance(&ring_, count);
}

} // namespace same_job::coroutine
