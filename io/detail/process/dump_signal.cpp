#include <creel/io/detail/process/dump_signal.hpp>

#include <creel/fibers/assert.hpp>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <system_error>

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

} // namespace creel::io::detail
