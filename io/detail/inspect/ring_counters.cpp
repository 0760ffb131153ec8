#include <creel/io/detail/inspect/ring_counters.hpp>

#include <array>

namespace creel::io::detail {

namespace {

struct shown {
    statistic what;
    std::uint64_t ring_statistics::*value;
};

constexpr std::array all{
    shown{{"creel_ring_operations_in_flight", "Operations whose last completion is to come."},
          &ring_statistics::operations_in_flight},
    shown{{"creel_ring_late_descriptors", "Descriptors that no fiber has taken yet."},
          &ring_statistics::late_descriptors},
    shown{{"creel_ring_buffers_out", "Provided buffers that have not come back."},
          &ring_statistics::buffers_out},
    shown{{"creel_ring_receives_standing", "Multishot receives of streams of short messages."},
          &ring_statistics::receives_standing},
    shown{{"creel_ring_registered_files", "Descriptors in the ring's file table."},
          &ring_statistics::registered_files},
    shown{{"creel_ring_submission_entries", "The size of the submission queue."},
          &ring_statistics::submission_entries},
    shown{{"creel_ring_completion_entries", "The size of the completion queue."},
          &ring_statistics::completion_entries},
    shown{{"creel_ring_operations_submitted_total", "Operations of fibers submitted.", true},
          &ring_statistics::operations_submitted},
    shown{{"creel_ring_operations_completed_total", "Operations of fibers completed.", true},
          &ring_statistics::operations_completed},
    shown{{"creel_ring_cancels_submitted_total", "Cancels of operations.", true},
          &ring_statistics::cancels_submitted},
    shown{{"creel_ring_completions_total", "Completions of the kernel.", true},
          &ring_statistics::completions},
    shown{{"creel_ring_enters_total", "System calls of the ring.", true}, &ring_statistics::enters},
    shown{{"creel_ring_room_waits_total", "Waits for room in the submission queue.", true},
          &ring_statistics::room_waits},
    shown{{"creel_ring_overflows_total", "Rounds that found the completion queue overflown.", true},
          &ring_statistics::overflows},
};
static_assert(all.size() <= statistics_source::most);

constexpr auto names_of_all = [] {
    std::array<statistic, all.size()> n{};
    for (std::size_t i = 0; i < n.size(); ++i)
        n[i] = all[i].what;
    return n;
}();

void read_ring(const statistics_source& self, std::span<std::uint64_t> values) noexcept {
    const ring_statistics now = static_cast<const ring_counters&>(self).of.statistics();
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = now.*all[i].value;
}

} // namespace

ring_counters::ring_counters(const ring& r) noexcept
    : statistics_source{names_of_all, &read_ring}, of(r) {}

} // namespace creel::io::detail
