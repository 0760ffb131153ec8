#include <creel/fibers/detail/trace/trace_file.hpp>

#include <creel/fibers/detail/report/json_string.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/waiter.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

namespace creel::detail {

namespace {

int open_for_writing(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
    if (descriptor < 0)
        throw std::system_error(errno, std::generic_category(),
                                "creel: cannot write a trace to " + path);
    return descriptor;
}

std::string name_of_thread() {
    std::array<char, 16> name{};
    if (::pthread_getname_np(::pthread_self(), name.data(), name.size()) != 0)
        name[0] = '\0';
    return "thread " + std::to_string(::gettid()) + " \"" + name.data() + '"';
}

std::string name_with_number(std::string_view name, std::uint64_t fiber) {
    std::string text{name.empty() ? "task" : name};
    return text.append(" (#").append(std::to_string(fiber)).append(")");
}

std::string site_of(const char* file, std::uint32_t line) {
    return std::string{file} + ':' + std::to_string(line);
}

} // namespace

trace_file::trace_file(std::string path, const std::source_location& began_at)
    : path_(std::move(path)),
      began_at_(began_at.line() != 0 ? to_text(began_at) : std::string{}),
      process_(::getpid()),
      descriptor_(open_for_writing(path_)) {}

trace_file::~trace_file() {
    ::close(descriptor_);
}

void trace_file::begin(std::uint64_t overwritten) {
    // A terminal or a pipe has no beginning: a second trace follows the first there.
    static_cast<void>(::ftruncate(descriptor_, 0) == 0 && ::lseek(descriptor_, 0, SEEK_SET) == 0);
    is_first_ = true;
    filled_ = 0;
    put("{\"displayTimeUnit\":\"ns\",\"otherData\":{\"writer\":\"creel\",\"run began at\":");
    put_string(began_at_);
    put(",\"older events overwritten\":");
    put_number(static_cast<std::int64_t>(overwritten));
    put("},\"traceEvents\":[");
    write_name("process_name", process_, program_invocation_short_name, {});
    write_name("thread_name", process_, name_of_thread(), began_at_);
}

// Viewers keep numbers of threads in 32 bits.
std::int64_t trace_file::track_of(std::uint64_t fiber) const noexcept {
    constexpr std::int64_t most = 0x7fffffff;
    const auto track = static_cast<std::int64_t>(fiber % most);
    return fiber == 0 ? process_ : track == process_ ? most : track;
}

void trace_file::end() {
    put("\n]}\n");
    flush();
}

void trace_file::name_fiber(std::uint64_t fiber, std::string_view name,
                            const std::source_location* spawned_at) {
    write_name("thread_name", track_of(fiber), name_with_number(name, fiber),
               spawned_at != nullptr ? site_of(spawned_at->file_name(), spawned_at->line())
                                     : std::string{});
}

void trace_file::write_name(const char* what, std::int64_t tid, std::string_view name,
                            std::string_view site) {
    begin_event('M', tid, 0);
    put(",\"name\":");
    put_string(what);
    put(",\"args\":{\"name\":");
    put_string(name);
    if (!site.empty()) {
        put(tid == process_ ? ",\"run began at\":" : ",\"spawned at\":");
        put_string(site);
    }
    put("}");
    end_event();
}

void trace_file::write(const event& e, std::string_view text) {
    switch (e.kind) {
    case event_kind::ran:
        begin_slice(e, "run", "runs");
        end_event();
        break;
    case event_kind::waited: {
        static constexpr std::array endings{"woken", "timed out", "cancelled"};
        begin_slice(e, "wait", text.empty() ? "waits" : text);
        put(",\"args\":{\"ended\":");
        put_string(e.how < endings.size() ? endings[e.how] : "no, it still waits");
        if (e.other != 0) {
            put(",\"by fiber\":");
            put_number(static_cast<std::int64_t>(e.other));
        }
        put("}");
        end_event();
        break;
    }
    case event_kind::spawned:
        begin_instant(e, "task", "spawns " + name_with_number(text, e.other));
        put(",\"args\":{\"at\":");
        put_string(site_of(e.file, e.line));
        put("}");
        end_event();
        break;
    case event_kind::ended:
        write_ended(e, text);
        break;
    case event_kind::cancelled:
        begin_instant(e, "cancel", text);
        end_event();
        break;
    case event_kind::polled:
        write_yield("poll", e);
        break;
    case event_kind::slept:
        write_yield("wait in the kernel", e);
        break;
    case event_kind::spun:
        write_yield("spin", e);
        break;
    case event_kind::unused:
        break;
    }
}

void trace_file::write_ended(const event& e, std::string_view name) {
    const std::string site = e.other != 0 ? site_of(e.file, e.line) : std::string{};
    write_name("thread_name", track_of(e.fiber), name_with_number(name, e.fiber), site);
    begin_instant(e, "task", "ends");
    if (!site.empty()) {
        put(",\"args\":{\"spawned at\":");
        put_string(site);
        put("}");
    }
    end_event();
}

void trace_file::write_yield(const char* name, const event& e) {
    const auto yield = std::bit_cast<poll_yield>(e.other);
    begin_slice(e, "poll", name);
    put(",\"args\":{\"completions\":");
    put_number(yield.completions);
    put(",\"io_uring_enter\":");
    put_number(yield.system_calls);
    put("}");
    end_event();
}

// ---- the text -----------------------------------------------------------------------------------

void trace_file::begin_event(char phase, std::int64_t tid, std::int64_t time) {
    put(std::exchange(is_first_, false) ? "\n{\"ph\":\"" : ",\n{\"ph\":\"");
    put({&phase, 1});
    put("\",\"pid\":");
    put_number(process_);
    put(",\"tid\":");
    put_number(tid);
    if (phase == 'M')
        return;
    put(",\"ts\":");
    put_time(time);
}

void trace_file::begin_slice(const event& e, const char* category, std::string_view name) {
    begin_event('X', track_of(e.fiber), e.began);
    put(",\"dur\":");
    put_time(e.length);
    put(",\"cat\":");
    put_string(category);
    put(",\"name\":");
    put_string(name);
}

// "s": how tall it is drawn, as its track.
void trace_file::begin_instant(const event& e, const char* category, std::string_view name) {
    begin_event('i', track_of(e.fiber), e.began);
    put(",\"s\":\"t\",\"cat\":");
    put_string(category);
    put(",\"name\":");
    put_string(name);
}

void trace_file::put_string(std::string_view text) {
    put(json_string(text));
}

void trace_file::put_number(std::int64_t number) {
    std::array<char, 24> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
    put({digits.data(), static_cast<std::size_t>(end - digits.data())});
}

void trace_file::put_time(std::int64_t nanoseconds) {
    const std::int64_t rest = nanoseconds % 1000;
    put_number(nanoseconds / 1000);
    if (rest <= 0)
        return;
    const std::array<char, 4> digits{'.', static_cast<char>('0' + rest / 100),
                                     static_cast<char>('0' + rest / 10 % 10),
                                     static_cast<char>('0' + rest % 10)};
    put({digits.data(), digits.size()});
}

void trace_file::put(std::string_view text) {
    while (!text.empty()) {
        if (filled_ == buffer_.size())
            flush();
        const std::size_t part = std::min(text.size(), buffer_.size() - filled_);
        std::memcpy(buffer_.data() + filled_, text.data(), part);
        filled_ += part;
        text.remove_prefix(part);
    }
}

void trace_file::flush() {
    for (std::size_t done = 0; done != filled_;) {
        const ssize_t written = ::write(descriptor_, buffer_.data() + done, filled_ - done);
        if (written < 0 && errno != EINTR)
            throw std::system_error(errno, std::generic_category(), path_);
        done += written > 0 ? static_cast<std::size_t>(written) : 0;
    }
    filled_ = 0;
}

} // namespace creel::detail
