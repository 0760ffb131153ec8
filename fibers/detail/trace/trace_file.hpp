// The file of a trace: events in Chrome's Trace Event Format, which is JSON. Perfetto
// (ui.perfetto.dev), chrome://tracing and the Firefox Profiler open it.
//
// One event is one line, so that grep and jq can work on it. In the format's words the process is
// the process, and each fiber is a thread, whose `tid` is the fiber's number. The run's own thread
// has that of the main thread, which viewers show first. Times are microseconds of the steady
// clock: the traces of several runs have one time axis.
#pragma once

#include <creel/fibers/detail/trace/event_ring.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

namespace creel::detail {

// Threads: one at a time.
class trace_file {
public:
    // Opens or makes the file, and does not touch what is in it. Throws: std::system_error, which
    // names it; std::bad_alloc.
    trace_file(std::string path, const std::source_location& began_at);
    ~trace_file();
    trace_file(const trace_file&) = delete;
    trace_file& operator=(const trace_file&) = delete;

    // Each throws std::system_error, which names the file, if it cannot be written to;
    // std::bad_alloc. begin() empties the file, end() completes it.
    void begin(std::uint64_t overwritten);
    void name_fiber(std::uint64_t fiber, std::string_view name,
                    const std::source_location* spawned_at);
    void write(const event& e, std::string_view text);
    void end();

private:
    void write_ended(const event& e, std::string_view name);
    void write_yield(const char* name, const event& e);
    void write_name(const char* what, std::int64_t tid, std::string_view name,
                    std::string_view site);
    [[nodiscard]] std::int64_t track_of(std::uint64_t fiber) const noexcept; // 0: the thread's
    // {"ph":"X","pid":1,"tid":2,"ts":3,"cat":"...","name":"..." without the closing brace.
    void begin_event(char phase, std::int64_t tid, std::int64_t time);
    void begin_slice(const event& e, const char* category, std::string_view name);
    void begin_instant(const event& e, const char* category, std::string_view name);
    void end_event() { put("}"); }
    void put(std::string_view text);
    void put_string(std::string_view text);
    void put_number(std::int64_t number);
    void put_time(std::int64_t nanoseconds); // as microseconds
    void flush();

    const std::string path_;
    const std::string began_at_;
    const std::int64_t process_;
    int descriptor_;
    bool is_first_ = true; // the next event is
    std::size_t filled_ = 0;
    std::array<char, 16384> buffer_;
};

} // namespace creel::detail
