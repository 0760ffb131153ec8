#include "support/process_end.hpp"

#include "support/fixture.hpp"
#include "support/sanitizers.hpp"

#include <csignal>

namespace creel::test {

std::string abort_of(test_body<> f) {
    const child_result child = run_in_child([&f] { f(); });
    if (child.signal == SIGABRT)
        return child.stderr_text;
    const std::string end = to_string(child);
    return end.substr(0, end.find('\n'));
}

std::string abort_of_run(test_body<manual_poller> f, creel::scheduler_options options) {
    return abort_of([&] { run_virtually(f, options); });
}

std::string failure_of(test_body<> f) {
    const child_result child = run_in_child([&f] { f(); });
    return child.exited && child.exit_code == 0 ? "" : to_string(child);
}

bool died_of_a_fault(const child_result& child) {
    const bool sanitized = under_asan || under_tsan;
    return child.signal == SIGSEGV || (sanitized && child.exited && child.exit_code != 0);
}

} // namespace creel::test
