// The state of the process that a run changes: descriptors 0 to 2, the limit of open files.
#include "clean_run.hpp"
#include "support/child_process.hpp"
#include "support/forked.hpp"

#include <creel/io/detail/ring/ring.hpp>

#include <array>
#include <climits>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;

namespace {

rlimit descriptor_limit() {
    rlimit limit{};
    expect(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    return limit;
}

void set_descriptor_limit(rlim_t soft, rlim_t hard) {
    const rlimit limit{soft, hard};
    expect(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

std::string target_of(int descriptor) {
    std::array<char, PATH_MAX> target{};
    const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(),
                                      target.data(), target.size());
    return {target.data(), static_cast<std::size_t>(length > 0 ? length : 0)};
}

void check_clean_end(const child_result& child) {
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK(child.stderr_text.empty());
}

} // namespace

TEST_CASE("bug: a run that starts with descriptors 0 and 1 closed puts /dev/null there") {
    check_clean_end(run_in_child([] {
        ::close(0);
        ::close(1);
        io::run([] {
            expect(target_of(0) == "/dev/null" && target_of(1) == "/dev/null");
            expect(io::detail::current_ring()->wake_descriptor() > 2);
            expect(clients_answered(1) == 1);
        });
        expect((::fcntl(1, F_GETFL) & O_ACCMODE) == O_RDWR && ::fcntl(1, F_GETFD) == 0);
    }));
}

TEST_CASE("a run raises the limit of descriptors, and a child of fork() has the one from before") {
    check_clean_end(run_in_child([] {
        const rlim_t hard = descriptor_limit().rlim_max;
        const auto limit_in_child_is = [](rlim_t soft) {
            return status_of_fork([&] { expect(descriptor_limit().rlim_cur == soft); }) == 0;
        };
        set_descriptor_limit(100, hard);
        io::run([&] {
            expect(descriptor_limit().rlim_cur == hard);
            expect(limit_in_child_is(100));
        });
        expect(limit_in_child_is(100)); // after the run as well
        set_descriptor_limit(hard - 1, hard);
        expect(limit_in_child_is(hard - 1)); // which creel did not set
    }));
}

TEST_CASE("with raise_descriptor_limit off the limit of descriptors is left alone") {
    check_clean_end(run_in_child([] {
        set_descriptor_limit(100, descriptor_limit().rlim_max);
        io::run({.raise_descriptor_limit = false},
                [] { expect(descriptor_limit().rlim_cur == 100); });
    }));
}

TEST_CASE("bug: a run that gets no descriptor for its ring says so, and names the limit") {
    const rlim_t free = GENERATE(0U, 1U); // too few for the eventfd, or for the io_uring
    const auto child = run_in_child([&] {
        const int lowest = ::dup(0);
        ::close(lowest);
        const auto limit = static_cast<rlim_t>(lowest) + free;
        set_descriptor_limit(limit, limit);
        const std::system_error error = error_of([] { io::run([] {}); });
        const std::string text = error.what();
        expect(error.code() == std::errc::too_many_files_open);
        expect(text.find("io::run: ") == 0);
        expect(text.find("`ulimit -n` is " + std::to_string(limit)) != std::string::npos);
    });
    check_clean_end(child);
}
