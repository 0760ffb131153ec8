// The terminate handler that names the fiber from which an uncaught exception came.
//
// The states of creel's handler, for the whole process:
//
//     absent                           --1--> on top
//     on top                           --3--> covered
//     covered, silent                  --4--> on top of an older handler
//     on top, on top of an older one   --2--> absent
//     covered                          --5--> silent
//
//   1  uncaught_watch()    the first watch: the handler of the program becomes `other_handler`
//   2  ~uncaught_watch()   the last watch, while creel's handler is the process's: `other_handler`
//                          is the process's again
//   3  the program         it sets a handler of its own, which may call creel's
//   4  uncaught_watch()    the old `other_handler` becomes `older_handler`, and the program's new
//                          handler becomes `other_handler`
//   5  ~uncaught_watch()   the last watch: creel's handler may still be called, so it stays, and
//                          only calls the next handler
//
// A thread that terminates runs on_terminate(). It tells of the exception, then calls
// `other_handler`. If that calls creel's handler in turn, `older_handler` is next.
#include <creel/fibers/detail/report/uncaught.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/cancel/audit.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/detail/report/reporting.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/unwind/unwind.hpp>
#include <creel/fibers/error_origin.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/fork_guard.hpp>
#include <creel/fibers/trace.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace creel::detail {

namespace {

constexpr std::size_t most_members_told = 16;

constinit std::mutex uncaught_mutex;
const fork_guard uncaught_in_forks{uncaught_mutex};
bool names_uncaught = false; // not absent; guarded by the mutex
// Written under the mutex; the handler reads them.
constinit std::atomic<std::size_t> uncaught_watches{0};
constinit std::atomic<std::terminate_handler> other_handler{nullptr};
constinit std::atomic<std::terminate_handler> older_handler{nullptr};
constinit std::atomic<uncaught_watch::hook> hook_of_watches{nullptr};

struct watched_thread {
    uncaught_watch* innermost = nullptr;
    bool is_telling = false;  // if a what() terminates in its turn, nothing is told of that
    bool has_gone_on = false; // to `other_handler`: if it calls ours, `older_handler` is next
};

// Not inlined, because a compiler may keep the address of a thread_local across a switch.
[[gnu::noinline]] watched_thread& uncaught_on_this_thread() noexcept {
    static constinit thread_local watched_thread here;
    return here;
}

// "std::system_error: connect to 10.0.0.1:80: Connection refused"
std::string type_and_text(const std::exception_ptr& error) {
    std::string text;
    try {
        std::rethrow_exception(error);
    } catch (const exception_group& group) {
        return type_name_in_flight() + " of " + std::to_string(group.errors().size()) + " errors";
    } catch (const std::exception& e) {
        text = type_name_in_flight();
        if (const char* const what = e.what(); what != nullptr && *what != 0)
            text.append(": ").append(what);
    } catch (const cancelled& c) {
        text = type_name_in_flight() + ": " + c.reason().text;
    } catch (...) {
        text = type_name_in_flight();
    }
    return escaped(text);
}

// Empty if no child and no run is known to have thrown it.
std::string where_from(const std::exception_ptr& error) {
    if (const auto origin = error_origin(error))
        return "; it came from " + escaped(to_string(*origin));
    const void* const object = object_of(error);
    for (const uncaught_watch* w = uncaught_on_this_thread().innermost; w != nullptr;
         w = w->outer())
        if (const std::source_location* const run = w->run_of(object))
            return "; it came from the function given to io::run at " + to_text(*run);
    return {};
}

// In debug mode: where the error was thrown, below a line that names it.
std::string place_of_throw(const std::exception_ptr& error, std::string_view margin) {
    const std::vector<code_address> frames = throw_of(error);
    if (frames.empty())
        return {};
    return std::string{margin} + "  thrown at\n" +
           text_at_end(frames, std::string{margin} + "    ");
}

// In debug mode: the frames from which std::terminate was called.
std::string place_of_end(std::span<const code_address> callers) {
    if (!this_scheduler->debug())
        return {};
    return "creel:   std::terminate was called at\n" +
           text_at_end({callers.begin(), callers.end()}, "creel:     ");
}

// In debug mode: the wait that threw the `cancelled` which ends the process here.
std::string place_of_cancelled() {
    std::string text = last_cancelled_throw(this_scheduler->running(), "creel:     ");
    if (!text.empty())
        text.insert(0, "creel:   a wait threw it at\n");
    return text;
}

// A line for each member whose child is known.
std::string members_of(const std::exception_ptr& error) {
    std::string lines;
    try {
        std::rethrow_exception(error);
    } catch (const exception_group& group) {
        const std::size_t told = std::min(group.errors().size(), most_members_told);
        for (std::size_t i = 0; i < told; ++i)
            if (const std::string from = where_from(group.errors()[i]); !from.empty())
                lines += "creel:   " + type_and_text(group.errors()[i]) + from + '\n' +
                         place_of_throw(group.errors()[i], "creel:   ");
    } catch (...) { // not a group
    }
    return lines;
}

bool is_cancelled(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const cancelled&) {
        return true;
    } catch (...) {
        return false;
    }
}

// The message. Empty if the exception has nothing to do with creel.
std::string story_of(const std::exception_ptr& error, std::span<const code_address> callers) {
    const std::string here =
        this_scheduler != nullptr ? name_of(this_scheduler->running()) : std::string{};
    if (error == nullptr)
        return here.empty()
                   ? here
                   : "creel: std::terminate was called in " + here + '\n' + place_of_end(callers);
    if (!here.empty() && is_cancelled(error))
        return "creel: `cancelled` left a destructor or another noexcept function in " + here +
               ", which ends the process: wait under creel::shield there\n" + place_of_cancelled();
    const std::string from = where_from(error);
    const std::string members = members_of(error);
    if (from.empty() && members.empty() && here.empty())
        return {};
    return "creel: uncaught " + type_and_text(error) + from +
           (here.empty() ? here : "; it ended the process in " + here) + '\n' +
           (members.empty() ? place_of_throw(error, "creel: ") : members) +
           (here.empty() ? here : place_of_end(callers));
}

void tell_uncaught(std::span<const code_address> callers) noexcept {
    const reporting now;
    try {
        const std::string story = story_of(std::current_exception(), callers);
        std::fputs(story.c_str(), stderr); // in one piece: other threads may write too
    } catch (const std::bad_alloc&) {      // the next handler names the exception, at least
    }
}

[[noreturn]] void on_terminate() noexcept {
    watched_thread& here = uncaught_on_this_thread();
    if (uncaught_watches.load() != 0 && !here.is_telling) {
        here.is_telling = true;
        if (const uncaught_watch::hook first = hook_of_watches.load())
            first();
        std::array<code_address, most_frames_of_throw> callers;
        const std::size_t count = unwind_here(callers, 1);
        tell_uncaught(std::span{callers}.first(count));
        write_trace();
        here.is_telling = false;
    }
    const bool again = std::exchange(here.has_gone_on, true);
    if (const std::terminate_handler next = again ? older_handler.load() : other_handler.load())
        next();
    std::abort();
}

} // namespace

uncaught_watch::uncaught_watch(hook first) noexcept : outer_(uncaught_on_this_thread().innermost) {
    uncaught_on_this_thread().innermost = this;
    const std::lock_guard lock{uncaught_mutex};
    if (first != nullptr)
        hook_of_watches.store(first);
    uncaught_watches.fetch_add(1);
    if (std::get_terminate() != &on_terminate) {
        const std::terminate_handler above = std::set_terminate(&on_terminate);
        if (names_uncaught)
            older_handler.store(other_handler.load());
        other_handler.store(above);
        names_uncaught = true;
    }
}

uncaught_watch::~uncaught_watch() {
    uncaught_on_this_thread().innermost = outer_;
    const std::lock_guard lock{uncaught_mutex};
    // Transition 2. Else the program has put a handler above ours, and ours stays.
    if (uncaught_watches.fetch_sub(1) == 1 && std::get_terminate() == &on_terminate) {
        std::set_terminate(other_handler.load());
        if (const std::terminate_handler older = older_handler.exchange(nullptr))
            other_handler.store(older); // the handler above may still call ours
        names_uncaught = false;
    }
}

void uncaught_watch::passes(const std::exception_ptr& error,
                            const std::source_location& run) noexcept {
    passing_ = object_of(error);
    run_ = run;
}

} // namespace creel::detail
