#include <creel/fibers/detail/trace/recorder.hpp>

#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/run/fiber_record.hpp>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <new>
#include <utility>

namespace creel::detail {

namespace {

std::int64_t nanoseconds(time_point t) noexcept {
    return std::chrono::nanoseconds{t.time_since_epoch()}.count();
}

std::uint64_t yield_of(const poller_work& before, const poller_work& after) noexcept {
    return std::bit_cast<std::uint64_t>(
        poll_yield{static_cast<std::uint32_t>(after.completions - before.completions),
                   static_cast<std::uint32_t>(after.system_calls - before.system_calls)});
}

// A carrier without a task, and the dispatcher, do the thread's work.
bool is_shown(const fiber_record& f) noexcept {
    return f.what != fiber_record::fiber_kind::dispatcher &&
           (f.what != fiber_record::fiber_kind::carrier || f.current != nullptr);
}

} // namespace

// Between the scheduler and its poller.
class trace_recorder::noting_poller final : public poller {
public:
    explicit noting_poller(trace_recorder& r) noexcept : recorder_(r), outside_(*r.outside_) {}

    void poll() noexcept override {
        if (recorder_.spins_) {
            outside_.poll();
            return;
        }
        const stay from = recorder_.go_outside();
        outside_.poll();
        recorder_.come_back(event_kind::polled, from);
    }
    void wait_until(time_point deadline) noexcept override {
        const stay from = recorder_.go_outside();
        outside_.wait_until(deadline);
        recorder_.come_back(event_kind::slept, from);
    }
    time_point now() noexcept override { return outside_.now(); }
    time_point coarse_now() noexcept override { return outside_.coarse_now(); }
    void wake() noexcept override { outside_.wake(); }
    [[nodiscard]] bool may_deliver() const noexcept override { return outside_.may_deliver(); }
    [[nodiscard]] poller_work work_done() const noexcept override { return outside_.work_done(); }

private:
    trace_recorder& recorder_;
    poller& outside_;
};

trace_recorder::trace_recorder(const std::string& path, std::size_t bytes, poller& outside,
                               const std::source_location& began_at)
    : outside_(&outside),
      noting_(std::make_unique<noting_poller>(*this)),
      file_(path, began_at),
      events_(bytes) {
    read_clock();
}

trace_recorder::~trace_recorder() = default;

poller& trace_recorder::noting() noexcept {
    return *noting_;
}

void trace_recorder::read_clock() noexcept {
    time_ = nanoseconds(outside_->now());
}

void trace_recorder::add(event_kind kind, std::uint64_t fiber, std::int64_t began,
                         std::uint64_t other, std::string_view text, std::uint8_t how) noexcept {
    event e;
    e.kind = kind;
    e.how = how;
    e.fiber = fiber;
    e.began = began;
    e.length = time_ - began;
    e.other = other;
    events_.add(e, text);
}

void trace_recorder::add_with_site(event_kind kind, std::uint64_t fiber, std::uint64_t other,
                                   std::string_view text,
                                   const std::source_location& where) noexcept {
    event e;
    e.kind = kind;
    e.fiber = fiber;
    e.began = time_;
    e.other = other;
    e.file = where.file_name();
    e.line = where.line();
    events_.add(e, text);
}

std::uint64_t trace_recorder::actor() const noexcept {
    return running_ != nullptr && !is_outside_ ? running_number_ : 0;
}

// ---- tracks -------------------------------------------------------------------------------------

// Null without memory: the fiber then has slices, and neither a name nor waits.
trace_track* trace_recorder::begin_track(const fiber_record& f) noexcept {
    try {
        if (free_tracks_ == nullptr)
            free_tracks_ = &tracks_.emplace_back();
        trace_track& t = *free_tracks_;
        if (const task_record* task = f.current) {
            t.name = task->name();
            t.spawned_at = task->spawned_at;
            t.is_task = true;
        } else {
            t.name = f.what == fiber_record::fiber_kind::main ? "main" : "Boost fiber";
            t.is_task = false;
        }
        free_tracks_ = std::exchange(t.next_free, nullptr);
        t.fiber = number_of(f);
        t.waits = false;
        return &t;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void trace_recorder::end_track(fiber_record& f) noexcept {
    trace_track& t = *std::exchange(f.track, nullptr);
    add_with_site(event_kind::ended, t.fiber, t.is_task ? 1 : 0, t.name, t.spawned_at);
    t.fiber = 0;
    t.next_free = free_tracks_;
    free_tracks_ = &t;
}

// ---- fibers -------------------------------------------------------------------------------------

void trace_recorder::runs(fiber_record& f) noexcept {
    is_outside_ = false;
    if (running_ != nullptr || !is_shown(f))
        return;
    // The reserve fiber ends one task after another and tells nothing of it.
    if (f.track != nullptr && f.track->fiber != number_of(f))
        end_track(f);
    if (f.track == nullptr)
        f.track = begin_track(f);
    running_ = &f;
    running_number_ = number_of(f);
    runs_since_ = time_;
}

// What the fiber waits for is asked here: when it is woken, that may be gone.
void trace_recorder::stops(fiber_record& f) noexcept {
    if (running_ != &f)
        return;
    read_clock();
    add(event_kind::ran, running_number_, runs_since_, 0);
    running_ = nullptr;
    if (f.track == nullptr)
        return;
    if (!is_shown(f)) {
        end_track(f); // the carrier's task has ended
        return;
    }
    if (f.waiting_on == nullptr)
        return;
    f.track->waits = true;
    f.track->waits_since = time_;
    f.track->waits_for.clear();
    try {
        f.waiting_on->kind().describe(*f.waiting_on, f.track->waits_for);
    } catch (...) { // NOLINT(bugprone-empty-catch): the wait is shown all the same
    }
}

void trace_recorder::ends(fiber_record& f) noexcept {
    stops(f);
    if (f.track != nullptr)
        end_track(f);
}

void trace_recorder::wakes(fiber_record& f, wake_reason why) noexcept {
    trace_track* const t = f.track;
    if (t == nullptr || !t->waits)
        return;
    read_clock();
    t->waits = false;
    add(event_kind::waited, t->fiber, t->waits_since, actor(), t->waits_for,
        static_cast<std::uint8_t>(why));
}

void trace_recorder::spawns(const task_record& t) noexcept {
    read_clock();
    std::string_view name;
    try {
        name = t.name();
    } catch (const std::bad_alloc&) { // of a label
    }
    add_with_site(event_kind::spawned, actor(), t.id, name, t.spawned_at);
}

void trace_recorder::cancels(const scope_core& s) noexcept {
    read_clock();
    try {
        std::string text = s.own.level == cancel_level::asked ? "asked to end" : "cancel";
        if (s.nursery != nullptr && !s.nursery->name.empty())
            text.append(" of nursery ").append(s.nursery->name);
        if (s.own.reason != nullptr && !s.own.reason->text.empty())
            text.append(": ").append(s.own.reason->text);
        add(event_kind::cancelled, actor(), time_, 0, text);
    } catch (const std::bad_alloc&) {
        add(event_kind::cancelled, actor(), time_, 0, "cancel");
    }
}

// ---- the outside world --------------------------------------------------------------------------

trace_recorder::stay trace_recorder::go_outside() noexcept {
    is_outside_ = true;
    read_clock();
    return {time_, outside_->work_done()};
}

void trace_recorder::come_back(event_kind kind, const stay& from) noexcept {
    read_clock();
    add(kind, 0, from.began, yield_of(from.before, outside_->work_done()));
}

void trace_recorder::begin_spin() noexcept {
    spin_ = go_outside();
    spins_ = true;
}

void trace_recorder::end_spin() noexcept {
    spins_ = false;
    come_back(event_kind::spun, spin_);
}

// ---- the file -----------------------------------------------------------------------------------

// A fiber that has been woken and has not run yet is in no event that ends now.
void trace_recorder::write_tracks() {
    for (const trace_track& t : tracks_) {
        if (t.fiber == 0)
            continue;
        file_.name_fiber(t.fiber, t.name, t.is_task ? &t.spawned_at : nullptr);
        if (!t.waits)
            continue;
        event e;
        e.kind = event_kind::waited;
        e.how = still_waits;
        e.fiber = t.fiber;
        e.began = t.waits_since;
        e.length = time_ - t.waits_since;
        file_.write(e, t.waits_for);
    }
    if (running_ != nullptr) {
        event e;
        e.kind = event_kind::ran;
        e.fiber = running_number_;
        e.began = runs_since_;
        e.length = time_ - runs_since_;
        file_.write(e, {});
    }
}

void trace_recorder::write() noexcept {
    if (std::exchange(is_writing_, true)) // it was the writing that failed
        return;
    read_clock();
    try {
        file_.begin(events_.overwritten());
        write_tracks();
        events_.for_each([this](const event& e, std::string_view text) { file_.write(e, text); });
        file_.end();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "creel: the trace is not complete: %s\n", e.what());
    }
    is_writing_ = false;
}

} // namespace creel::detail
