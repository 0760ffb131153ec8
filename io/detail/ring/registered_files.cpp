#include <creel/io/detail/ring/registered_files.hpp>
#include <creel/io/detail/ring/ring_setup.hpp>

#include <algorithm>
#include <liburing.h>
#include <new>

#include <sys/resource.h>

namespace creel::io::detail {
namespace {

constexpr int most_files = 65'536;

// IORING_FEAT_RW_ATTR (6.14). The change that is needed came with 6.13 and has no flag of its own
// ("io_uring/rsrc: get rid of per-ring io_rsrc_node list"). Before, the kernel let a file that was
// taken out of the table go only when each operation begun before on any registered file was over.
// One idle client then kept all connections open that its server had closed.
constexpr unsigned files_go_at_once = 1U << 16;

} // namespace

void registered_files::end() noexcept {
    if (slots_ > 0)
        io_uring_unregister_files(&uring_);
    slots_ = slots_used_ = 0;
    free_.clear();
    count_ = 0;
}

void registered_files::renew() noexcept {
    if (slots_ < 0 || count_ != 0)
        end();
}

bool registered_files::usable() noexcept {
    if (slots_ == 0 &&
        ((uring_.features & files_go_at_once) == 0 || is_withheld(newer_feature::registered_file)))
        slots_ = -1;
    if (slots_ == 0) {
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit); // the table may not be larger
        const auto most = static_cast<unsigned>(std::min<rlim_t>(limit.rlim_cur, most_files));
        slots_ = io_uring_register_files_sparse(&uring_, most) == 0 ? static_cast<int>(most) : -1;
    }
    return slots_ > 0;
}

int registered_files::enter(int fd) noexcept {
    if (!usable())
        return -1;
    int slot = -1;
    if (!free_.empty())
        slot = free_.back();
    else if (slots_used_ < slots_)
        slot = slots_used_;
    if (slot < 0 ||
        io_uring_register_files_update(&uring_, static_cast<unsigned>(slot), &fd, 1) != 1)
        return -1;
    if (slot == slots_used_)
        ++slots_used_;
    else
        free_.pop_back();
    ++count_;
    return slot;
}

void registered_files::take_out(int slot) noexcept {
    int none = -1;
    if (io_uring_register_files_update(&uring_, static_cast<unsigned>(slot), &none, 1) != 1)
        return; // it stays open until the run has ended, and counts
    --count_;
    try {
        free_.push_back(slot);
    } catch (const std::bad_alloc&) { // this run does not use the slot again
    }
}

} // namespace creel::io::detail
