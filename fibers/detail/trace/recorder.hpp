// The trace of one run: what its fibers did and waited for, until the run ends.
//
// The scheduler tells it of each slice, park, wake, spawn, end and cancel, and polls through it. It
// notes them in the ring of events; nothing is written to the file before write(). So that a
// fiber's name and the text of its wait are noted once and not with each slice, each fiber that has
// begun has a track. When the fiber's task ends, its name goes into the ring with the event of the
// end, which is newer than all other events of the fiber. So the names of all events in the ring
// are there or in the tracks, and no table grows with the number of tasks that there ever were.
#pragma once

#include <creel/fibers/detail/trace/event_ring.hpp>
#include <creel/fibers/detail/trace/trace_file.hpp>
#include <creel/fibers/poller.hpp>
#include <creel/fibers/waiter.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <source_location>
#include <string>

namespace creel::detail {

struct fiber_record;
struct scope_core;
struct task_record;

// A fiber from its first slice to the end of its task.
struct trace_track {
    std::uint64_t fiber = 0; // its number; 0: the track is free
    std::string name{};
    std::source_location spawned_at{};
    bool is_task = false;
    bool waits = false;
    std::int64_t waits_since = 0;
    std::string waits_for{};
    trace_track* next_free = nullptr;
};

// Threads: its scheduler's own.
class trace_recorder {
public:
    // `began_at`: the call that begins the run. Throws: std::system_error, which names the file, if
    // it cannot be opened for writing; std::bad_alloc.
    trace_recorder(const std::string& path, std::size_t bytes, poller& outside,
                   const std::source_location& began_at);
    trace_recorder(const trace_recorder&) = delete;
    trace_recorder& operator=(const trace_recorder&) = delete;
    ~trace_recorder();

    // Fibers. `stops` is told before a switch, and when a carrier has ended its task; `runs` when
    // it is known what goes on. Each does nothing if the other has not been called since.
    void runs(fiber_record& f) noexcept;
    void stops(fiber_record& f) noexcept;
    void ends(fiber_record& f) noexcept; // main, or a native, has ended
    void wakes(fiber_record& f, wake_reason why) noexcept;
    void spawns(const task_record& t) noexcept;
    void cancels(const scope_core& s) noexcept; // its own request has changed

    // The poller, whose polls and waits are noted. From the first of them to was_outside() a wake
    // comes from outside, also if a fiber polls within its slice. The polls of a spin are noted as
    // one.
    [[nodiscard]] poller& noting() noexcept;
    void begin_spin() noexcept;
    void end_spin() noexcept;
    void was_outside() noexcept { is_outside_ = false; }

    // Writes all that it has to the file, in place of what it has written before. Tells stderr of a
    // failure.
    void write() noexcept;

private:
    class noting_poller;
    struct stay {
        std::int64_t began;
        poller_work before;
    };

    void read_clock() noexcept;
    void add(event_kind kind, std::uint64_t fiber, std::int64_t began, std::uint64_t other,
             std::string_view text = {}, std::uint8_t how = 0) noexcept;
    void add_with_site(event_kind kind, std::uint64_t fiber, std::uint64_t other,
                       std::string_view text, const std::source_location& where) noexcept;
    trace_track* begin_track(const fiber_record& f) noexcept;
    void end_track(fiber_record& f) noexcept;
    [[nodiscard]] stay go_outside() noexcept;
    void come_back(event_kind kind, const stay& from) noexcept;
    [[nodiscard]] std::uint64_t actor() const noexcept; // the fiber that acts now, or 0
    void write_tracks();

    poller* outside_;
    // Its class is in the .cpp file. If the loop knew of one class of pollers, GCC would
    // devirtualize each call speculatively: compare, and then call this class or another.
    const std::unique_ptr<noting_poller> noting_;
    trace_file file_;
    event_ring events_;
    std::int64_t time_ = 0; // when the clock was last read
    fiber_record* running_ = nullptr;
    std::uint64_t running_number_ = 0; // its task may be gone before its slice ends
    std::int64_t runs_since_ = 0;
    bool is_outside_ = false;
    bool spins_ = false;
    bool is_writing_ = false;
    stay spin_{};
    std::deque<trace_track> tracks_; // as many as there were fibers at one time
    trace_track* free_tracks_ = nullptr;
};

} // namespace creel::detail
