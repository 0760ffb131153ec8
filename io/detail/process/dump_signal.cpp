#include <creel/io/detail/process/dump_signal.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/io/detail/descriptor/descriptor.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>
#include <system_error>

#include <sys/socket.h>

namespace creel::io::detail {
namespace {

// SIGINT and SIGTERM end runs, nothing can catch the next two, and a fault raises the others.
constexpr std::array of_no_use{SIGINT, SIGTERM, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS,
                               SIGFPE, SIGILL,  SIGTRAP, SIGSYS,  SIGABRT};

int chosen(const run_options& options) noexcept {
    if (options.dump_signal >= 0)
        return options.dump_signal;
    return options.on_signal == signal_action::ignore ? 0 : SIGQUIT;
}

constexpr duration usual_threshold = std::chrono::milliseconds{100}; // as asyncio's

duration threshold_for(const run_options& options, bool debug) noexcept {
    if (options.stall_threshold == duration{})
        return debug ? usual_threshold : duration::max();
    return options.stall_threshold < duration{} ? duration::max()
                                                : duration{options.stall_threshold};
}

std::string name_of_socket(int fd) {
    int listens = 0;
    socklen_t bytes = sizeof listens;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) == 0 && listens != 0)
        return "listening on " + local_name(fd);
    return "peer " + peer_name(fd);
}

} // namespace

dump_on_signal::dump_on_signal(const run_options& options) {
    const int number = chosen(options);
    if (number == 0)
        return;
    CREEL_ASSERT(number <= SIGRTMAX &&
                     std::find(of_no_use.begin(), of_no_use.end(), number) == of_no_use.end(),
                 "io::run: dump_signal must be a signal that the program can spare: SIGQUIT, "
                 "SIGUSR1, SIGUSR2, ...; 0 for none");
    if (!is_free(number))
        return;
    try {
        watched_.emplace(number);
    } catch (const std::system_error& error) {
        std::fprintf(stderr, "creel: %s will not dump the fibers: %s\n",
                     signal_name(number).c_str(), error.what());
    }
}

report_of_stalls::report_of_stalls(const run_options& options, bool debug) {
    const duration threshold = threshold_for(options, debug);
    if (threshold == duration::max())
        return;
    const bool owns_signals = options.on_signal != signal_action::ignore || chosen(options) != 0;
    try {
        watch_.emplace(stall_watch_options{threshold, owns_signals, &name_of_socket});
    } catch (const std::system_error& error) {
        std::fprintf(stderr, "creel: stalls will not be reported: %s\n", error.what());
    }
}

} // namespace creel::io::detail
