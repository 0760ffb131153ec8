#include <creel/fibers/detail/inspect/dump.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/detail/inspect/inspection.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/inspect/thread_backtrace.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/unwind/symbols.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <fstream>
#include <mutex>
#include <optional>
#include <utility>

#include <pthread.h>

namespace creel::detail {

namespace {

constexpr duration patience_with_a_run = std::chrono::milliseconds{100};

// What is known of the program's code is kept for the next dump.
constinit std::mutex names_mutex;
const fork_guard names_in_forks{names_mutex};

code_names& names_of_process() {
    static auto* const names = new code_names; // never destroyed: a dump may be made at exit
    return *names;
}

std::string first_line_of(const std::string& file) {
    std::string line;
    std::getline(std::ifstream{file}, line);
    return line;
}

std::vector<code_address> frames_of_thread(int thread_id, std::size_t most) {
    std::vector<code_address> frames(std::min(most, inspection::most_frames));
    frames.resize(backtrace_of(thread_id, frames));
    return frames;
}

// Those that have been posted when there is no memory for another one are not awaited.
struct posted_inspections {
    ~posted_inspections() {
        for (inspection* const i : all)
            if (i != nullptr)
                inspection::give_up(i);
    }
    std::vector<inspection*> all{};
};

std::vector<run_snapshot> ask_all_runs(const inspection_limits& limits, const scheduler* own,
                                       const run_snapshot& own_copy) {
    posted_inspections posted;
    for_each_run([&](scheduler& s) {
        posted.all.push_back(nullptr);
        if (&s != own)
            posted.all.back() = inspection::post(s, limits);
    });
    std::vector<run_snapshot> runs;
    for (inspection*& i : posted.all) {
        std::optional<run_snapshot> answer{own_copy};
        if (i != nullptr)
            answer = inspection::await(std::exchange(i, nullptr), patience_with_a_run);
        if (!answer)
            continue;
        answer->thread_name =
            first_line_of("/proc/self/task/" + std::to_string(answer->thread_id) + "/comm");
        if (answer->how == run_snapshot::ending::stalled)
            answer->running = frames_of_thread(answer->thread_id, limits.most_frames);
        runs.push_back(std::move(*answer));
    }
    return runs;
}

inspection_limits limits_of(const dump_options& options) {
    return {options.most_fibers, options.most_frames};
}

struct dump_at_once {
    explicit dump_at_once(const dump_options& wanted) : options(wanted) {
        if (own != nullptr)
            own_copy = inspection::of_own_run(*own, limits_of(options));
    }

    static void* make(void* self) noexcept {
        auto& job = *static_cast<dump_at_once*>(self);
        try {
            job.text = make_dump(job.options, job.own, job.own_copy);
        } catch (...) {
            job.error = std::current_exception();
        }
        return nullptr;
    }

    const dump_options& options;
    scheduler* const own = scheduler::current();
    run_snapshot own_copy{};
    std::string text{};
    std::exception_ptr error{};
};

} // namespace

std::string make_dump(const dump_options& options, const scheduler* own,
                      const run_snapshot& own_copy) {
    const std::vector<run_snapshot> runs = ask_all_runs(limits_of(options), own, own_copy);
    const std::lock_guard lock{names_mutex};
    const struct closing {
        ~closing() { names_of_process().close(); }
    } at_end;
    return options.format == dump_format::json
               ? dump_as_json(runs, names_of_process(), options.all_frames)
               : dump_as_text(runs, names_of_process(), options.all_frames);
}

std::string make_dump_at_once(const dump_options& options) {
    if (scheduler::current() == nullptr)
        return make_dump(options);
    dump_at_once job{options};
    pthread_t thread{};
    if (start_joinable_helper_thread(thread, &dump_at_once::make, &job) == 0)
        ::pthread_join(thread, nullptr);
    else
        dump_at_once::make(&job);
    if (job.error)
        std::rethrow_exception(job.error);
    return std::move(job.text);
}

} // namespace creel::detail
