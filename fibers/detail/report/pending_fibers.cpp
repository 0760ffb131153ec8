#include <creel/fibers/detail/report/pending_fibers.hpp>

#include <creel/fibers/detail/inspect/dump.hpp>
#include <creel/fibers/detail/inspect/inspection.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/report/reporting.hpp>

#include <cstdio>
#include <string>
#include <utility>

namespace creel::detail {

// Rejected: dump_fibers(). It asks the run and waits for its answer, and the run answers between
// two switches, which do not come any more.
void tell_pending_fibers(const char* event) noexcept {
    scheduler* const here = this_scheduler;
    if (here == nullptr || !here->debug())
        return;
    const reporting now;
    try {
        const dump_options limits;
        run_snapshot run = inspection::copy_here(*here, {limits.most_fibers, limits.most_frames});
        std::string text = made_elsewhere([copy = std::move(run)] { return make_text_of(copy); });
        if (text.empty())
            text = list_fibers();
        text.insert(0, std::string{"creel: debug: "} + event + '\n');
        std::fputs(text.c_str(), stderr);
    } catch (...) { // no memory, or an error of the describe() of a program's own waiter
    }
}

} // namespace creel::detail
