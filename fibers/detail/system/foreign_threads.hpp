// The threads of the process that are not creel's own.
#pragma once

namespace creel::detail {

// While one of these exists, the thread that made it is creel's own. Threads: any.
class own_thread {
public:
    own_thread() noexcept;
    ~own_thread();
    own_thread(const own_thread&) = delete;
    own_thread& operator=(const own_thread&) = delete;

private:
    friend bool is_own_thread(int thread_id) noexcept;
    friend void forget_threads_of_parent() noexcept;

    int thread_id_;
    own_thread* next_ = nullptr; // guarded by the mutex, as the next
    own_thread* previous_ = nullptr;
};

// False if every other thread of the process is one that creel, or the kernel for its ring, has
// started. True if there is another one, and also if that cannot be found out. Threads: any. Cost:
// reads a file of /proc for each thread that is not creel's own, twice.
[[nodiscard]] bool has_foreign_threads() noexcept;

} // namespace creel::detail
