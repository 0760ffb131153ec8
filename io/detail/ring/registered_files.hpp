// The kernel's table of a ring's files: an operation that names a file by its slot
// (IOSQE_FIXED_FILE) saves the kernel two atomic operations on the file.
#pragma once

#include <vector>

struct io_uring;

namespace creel::io::detail {

class registered_files {
public:
    explicit registered_files(io_uring& uring) noexcept : uring_(uring) {}
    registered_files(const registered_files&) = delete;
    registered_files& operator=(const registered_files&) = delete;

    // False: the kernel refuses, or would not let a file go at once. Cost: a system call the first
    // time.
    [[nodiscard]] bool usable() noexcept;

    // Returns the slot, or -1: there is no room, or the kernel refuses. The file stays open until
    // it is taken out. Cost: a system call each.
    int enter(int fd) noexcept;
    void take_out(int slot) noexcept;

    void end() noexcept; // before the ring's exit, which would take the files out later
    // For the ring's next run: takes out the files that are left. If the kernel refused, it is
    // asked again.
    void renew() noexcept;

    [[nodiscard]] unsigned count() const noexcept { return count_; }

private:
    io_uring& uring_;
    int slots_ = 0;      // 0: not tried yet, or ended; -1: refused
    int slots_used_ = 0; // the slots from here on were never used
    std::vector<int> free_{};
    unsigned count_ = 0;
};

} // namespace creel::io::detail
