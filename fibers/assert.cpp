#include <creel/fibers/assert.hpp>

#include <creel/fibers/detail/run/forked_run.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/trace.hpp>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <unistd.h>

namespace creel {

void assertion_failed(const char* expression, const char* message,
                      std::source_location where) noexcept {
    const std::string_view fiber = this_fiber::name();
    const auto line = static_cast<unsigned>(where.line());
    if (detail::run_is_in_parent) // the fork is the mistake; the condition failed because of it
        std::fprintf(stderr,
                     "creel: this process was made by fork() inside io::run, and the run stayed "
                     "with the parent: call only exec or _exit here, or fork before io::run (%s) "
                     "[%s] at %s:%u\n",
                     message, expression, where.file_name(), line);
    else if (this_fiber::id() == 0)
        std::fprintf(stderr, "creel: %s [%s] at %s:%u on thread %d, which has no run\n", message,
                     expression, where.file_name(), line, ::gettid());
    else
        std::fprintf(stderr, "creel: %s [%s] at %s:%u in fiber %.*s#%llu\n", message, expression,
                     where.file_name(), line, static_cast<int>(fiber.size()), fiber.data(),
                     static_cast<unsigned long long>(this_fiber::id()));
    write_trace();
    std::abort();
}

} // namespace creel
