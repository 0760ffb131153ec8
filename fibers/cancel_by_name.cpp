#include <creel/fibers/cancel_by_name.hpp>

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/inspect/asking_thread.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/inspect/run_request.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <algorithm>
#include <array>
#include <new>
#include <string>
#include <vector>

namespace creel {

namespace {

using detail::carrier_walk;
using detail::fiber_record;
using detail::nursery_core;
using detail::parker;
using detail::run_request;
using detail::scheduler;

// It cancels as it finds. A cancel wakes fibers and drops tasks that have not started; it ends no
// carrier and no scope, so the walk can go on.
class cancelling : public run_request {
public:
    static pointer<cancelling> post_to(scheduler& run, std::string_view name,
                                       std::string_view reason) {
        pointer<cancelling> posted{new cancelling{run, name, reason}};
        posted->post();
        return posted;
    }

    // The run's, until the work is done.
    std::size_t cancelled = 0;
    bool had_no_memory = false;

private:
    cancelling(scheduler& run, std::string_view name, std::string_view reason)
        : run_request(run, how), name_(name), reason_(reason) {}
    ~cancelling() = default;

    bool work() noexcept {
        const time_point slice_ends = clock::now() + longest_slice;
        try {
            if (!began_) {
                began_ = true;
                carriers.begin_at(home().first_carrier());
                look_at(home().main());
                home().for_each_native([this](const fiber_record& f) { look_at(f); });
            }
            carriers.go_on(slice_ends, [this](const fiber_record& f) { return look_at(f); });
        } catch (const std::bad_alloc&) {
            had_no_memory = true;
            carriers.stop();
        }
        return carriers.is_over();
    }

    carrier_walk::step look_at(const parker& p) {
        carrier_walk::step then = carrier_walk::step::next;
        for (const detail::scope_core* c = p.outermost; c != nullptr; c = c->inner) {
            nursery_core* const n = c->nursery;
            if (n == nullptr || n->name != name_ || n->scope.cancel_called())
                continue;
            n->scope.cancel(reason_);
            ++cancelled;
            then = carrier_walk::step::look;
        }
        return then;
    }

    static const kind how;

    const std::string name_;
    const std::string reason_;
    bool began_ = false;
};

const run_request::kind cancelling::how{
    [](run_request& self) noexcept { return static_cast<cancelling&>(self).work(); },
    [](run_request* self) noexcept { delete static_cast<cancelling*>(self); }, true};

named_cancel cancel_in_all_runs(std::string_view name, std::string_view reason, duration patience) {
    std::vector<run_request::pointer<cancelling>> posted;
    detail::for_each_run([&](scheduler& s) {
        posted.emplace_back();
        posted.back() = cancelling::post_to(s, name, reason);
    });
    named_cancel answer;
    bool had_no_memory = false;
    for (const run_request::pointer<cancelling>& one : posted) {
        const run_request::outcome how = one->await(patience);
        if (how == run_request::outcome::late)
            ++answer.runs_late;
        if (how != run_request::outcome::done)
            continue;
        answer.nurseries += one->cancelled;
        had_no_memory = had_no_memory || one->had_no_memory;
    }
    if (had_no_memory)
        throw std::bad_alloc{};
    return answer;
}

} // namespace

// The names in race.hpp, map.hpp, all.hpp and started.cpp.
bool is_name_of_creel(std::string_view name) noexcept {
    static constexpr std::array<std::string_view, 4> names{"race", "map", "all", "start"};
    return std::find(names.begin(), names.end(), name) != names.end();
}

named_cancel cancel_nurseries(std::string_view name, std::string_view reason,
                              saturating_duration patience) {
    if (is_name_of_creel(name))
        return {};
    named_cancel answer;
    detail::on_asking_thread("a cancel of nurseries by name",
                             [&] { answer = cancel_in_all_runs(name, reason, patience); });
    return answer;
}

} // namespace creel
