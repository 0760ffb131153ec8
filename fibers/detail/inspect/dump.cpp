#include <creel/fibers/detail/inspect/dump.hpp>

#include <creel/fibers/detail/inspect/inspection.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/inspect/stall_cause.hpp>
#include <creel/fibers/detail/inspect/thread_backtrace.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/unwind/symbols.hpp>
#include <creel/fibers/stall_watch.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include <pthread.h>

namespace creel::detail {

namespace {

// What is known of the program's code is kept for the next dump. It is never destroyed: a dump may
// be made at exit.
constinit std::mutex names_mutex;
code_names* known_names = nullptr; // guarded by the mutex

// With the mutex held.
code_names& names_of_process() {
    if (known_names == nullptr)
        known_names = new code_names;
    return *known_names;
}

struct closing_names { // with the mutex held
    closing_names() = default;
    ~closing_names() { names_of_process().close(); }
    closing_names(const closing_names&) = delete;
    closing_names& operator=(const closing_names&) = delete;
};

// A fork does not wait for the mutex, because names take long to look up. If another thread is in
// the middle of that, the names of the child are in an unknown state, and it begins anew.
thread_local bool has_names_in_fork = false;
code_names* unknown_names = nullptr; // so that a leak checker finds them

void hold_names() noexcept {
    has_names_in_fork = names_mutex.try_lock();
}
void let_go_of_names() noexcept {
    if (has_names_in_fork)
        names_mutex.unlock();
}
void take_names_into_child() noexcept {
    if (has_names_in_fork) {
        names_mutex.unlock();
        return;
    }
    std::construct_at(&names_mutex);
    unknown_names = std::exchange(known_names, nullptr);
}
[[maybe_unused]] const int names_in_forks =
    ::pthread_atfork(&hold_names, &let_go_of_names, &take_names_into_child);

struct asked_run {
    scheduler* run = nullptr;
    std::uint64_t number = 0;                // its run_number()
    processor_time time{};                   // of its thread, when it was asked
    std::string (*name_of_socket)(int fd){}; // null: of no such
    run_request::pointer<inspection> copy{};

    std::optional<run_snapshot> answer(const dump_options& options) const {
        std::optional<run_snapshot> found = copy->await_copy(options.patience);
        if (found && found->how == run_snapshot::ending::stalled)
            look_at_stalled(*found, options.most_frames);
        return found;
    }

    // What is found counts only if the thread has done the same since it was asked, and still does.
    // One that goes on meanwhile is late, and no fiber is to be accused.
    void look_at_stalled(run_snapshot& r, std::size_t most_frames) const {
        const auto goes_on = [&] {
            return run->run_number() != number || run->progress() != r.progress;
        };
        if (!goes_on()) {
            r.runs = running_fiber_of(*run);
            r.does = cause_of_stall(r.thread_id, sample_of(r.thread_id), time,
                                    {.name_of_socket = name_of_socket})
                         .does;
            r.running.resize(std::min(most_frames, inspection::most_frames));
            r.running.resize(most_frames != 0 ? backtrace_of(r.thread_id, r.running) : 0);
        }
        if (!goes_on())
            return;
        r.how = run_snapshot::ending::late;
        r.runs = {};
        r.does.clear();
        r.running.clear();
    }
};

std::vector<run_snapshot> ask_all_runs(const dump_options& options) {
    std::vector<asked_run> asked;
    for_each_run([&](scheduler& s) {
        const stall_watch_options* const watched = s.live.watched();
        asked.push_back({.run = &s,
                         .number = s.run_number(),
                         .time = processor_time_of(s.live.thread_id()),
                         .name_of_socket = watched != nullptr ? watched->name_of_socket : nullptr});
        asked.back().copy =
            inspection::post_to(s, {options.most_fibers, options.most_frames, options.fiber});
    });
    std::vector<run_snapshot> runs;
    for (asked_run& a : asked) {
        std::optional<run_snapshot> answer = a.answer(options);
        if (answer && answer->how == run_snapshot::ending::late &&
            answer->patience == options.patience) // it has moved only while it was looked at
            answer = a.answer(options);
        a.copy.reset();
        if (!answer)
            continue;
        if (options.fiber != 0 && answer->how == run_snapshot::ending::whole &&
            answer->tree.empty())
            continue;
        answer->thread_name = name_of_thread(answer->thread_id);
        runs.push_back(std::move(*answer));
    }
    return runs;
}

// Once the fiber is found, the runs that were late do not have it.
void drop_late_runs(std::vector<run_snapshot>& runs, std::uint64_t fiber) {
    const bool is_found = std::any_of(runs.begin(), runs.end(), [fiber](const run_snapshot& r) {
        return !r.tree.empty() || r.runs.who.id == fiber;
    });
    if (is_found)
        std::erase_if(runs,
                      [](const run_snapshot& r) { return r.how == run_snapshot::ending::late; });
}

// Looks up who holds what others wait for: a fiber of the same run, of another one, or a thread.
void name_holders(std::vector<run_snapshot>& runs) {
    std::unordered_map<party_number, std::string> names;
    for (const run_snapshot& r : runs)
        for (const fiber_snapshot& f : r.tree)
            names.emplace(f.who.id, name_of_fiber(f));
    const auto name = [&names](fiber_snapshot& f) {
        if (f.held_by == 0)
            return;
        const auto known = names.find(f.held_by);
        f.holder = known != names.end()              ? known->second
                   : f.held_by >= first_thread_party ? "a plain thread"
                                                     : '#' + std::to_string(f.held_by);
    };
    for (run_snapshot& r : runs) {
        std::for_each(r.tree.begin(), r.tree.end(), name);
        for (fiber_group& g : r.groups)
            name(g.first);
    }
}

// While it exists, the thread has the names of the process's code.
struct names_in_use {
    ~names_in_use() { names.close(); }
    const std::lock_guard<std::mutex> lock{names_mutex};
    code_names& names = names_of_process();
};

} // namespace

std::string text_of_fibers(const std::vector<fiber_snapshot>& fibers) {
    const names_in_use known;
    return fibers_as_text(fibers, known.names);
}

std::string make_dump(const dump_options& options) {
    std::vector<run_snapshot> runs = ask_all_runs(options);
    if (options.fiber != 0)
        drop_late_runs(runs, options.fiber);
    if (runs.empty() && options.fiber != 0 && options.format == dump_format::text)
        return "there is no fiber #" + std::to_string(options.fiber) + '\n';
    name_holders(runs);
    const names_in_use known;
    return options.format == dump_format::json
               ? dump_as_json(runs, known.names, options.all_frames)
               : dump_as_text(runs, known.names, options.all_frames);
}

std::string make_text_of(run_snapshot run) {
    run.thread_name = name_of_thread(run.thread_id);
    std::vector<run_snapshot> one{std::move(run)};
    name_holders(one);
    const names_in_use known;
    return dump_as_text(one, known.names, false);
}

std::string make_backtrace_text(const std::vector<code_address>& frames, std::string_view indent) {
    const names_in_use known;
    return frames_as_text(frames, known.names, false, indent);
}

} // namespace creel::detail
