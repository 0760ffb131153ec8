// The tools of tests/support that touch the kernel: each sees the fault that it is there to find.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/json.hpp"
#include "support/memory.hpp"
#include "support/open_descriptors.hpp"
#include "support/seccomp.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace test = creel::test;

namespace {

constexpr std::chrono::milliseconds short_limit{200};

// A number no descriptor has. Not -1, with which newer kernels register without a ring.
constexpr int no_ring = std::numeric_limits<int>::max();

// Each gives 0 or the call's errno.
int setup_errno() {
    io_uring_params params{};
    const long ring = ::syscall(SYS_io_uring_setup, 4, &params);
    if (ring < 0)
        return errno;
    ::close(static_cast<int>(ring));
    return 0;
}

int enter_errno() {
    return ::syscall(SYS_io_uring_enter, no_ring, 0, 0, 0, nullptr, 0) < 0 ? errno : 0;
}

int register_errno() {
    return ::syscall(SYS_io_uring_register, no_ring, IORING_UNREGISTER_BUFFERS, nullptr, 0) < 0
               ? errno
               : 0;
}

std::string refusals_of(const test::refused_calls& calls) {
    const auto child = test::run_in_child([&] {
        test::refuse(calls);
        std::cerr << setup_errno() << ' ' << enter_errno() << ' ' << register_errno();
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    return child.stderr_text;
}

std::string numbers(int setup, int enter, int registering) {
    return std::to_string(setup) + ' ' + std::to_string(enter) + ' ' + std::to_string(registering);
}

class mapping {
public:
    explicit mapping(std::size_t bytes)
        : bytes_(bytes),
          address_(
              ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        if (address_ == MAP_FAILED)
            throw std::runtime_error("mmap");
    }
    mapping(const mapping&) = delete;
    mapping& operator=(const mapping&) = delete;
    ~mapping() { ::munmap(address_, bytes_); }

    [[nodiscard]] char* data() const noexcept { return static_cast<char*>(address_); }

private:
    std::size_t bytes_;
    void* address_;
};

} // namespace

TEST_CASE("a child that returns exits with 0 and says nothing") {
    const auto child = test::run_in_child([] {});
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK(child.signal == 0);
    CHECK_FALSE(child.timed_out);
    CHECK(child.stderr_text.empty());
}

TEST_CASE("a child's exit code and its stderr come back") {
    const auto child = test::run_in_child([] {
        std::cerr << "one ";
        std::fputs("two ", stderr);
        static_cast<void>(!::write(STDERR_FILENO, "three", 5));
        ::_exit(7);
    });
    CHECK(child.exited);
    CHECK(child.exit_code == 7);
    CHECK(child.stderr_text == "one two three");
    CHECK(to_string(child) == "child exited with code 7; its stderr:\none two three");
}

TEST_CASE("an abort in a child comes back as its signal with the last words") {
    const auto child = test::run_in_child([] {
        std::fputs("creel: last words", stderr);
        std::abort();
    });
    CHECK_FALSE(child.exited);
    CHECK(child.signal == SIGABRT);
    CHECK_FALSE(child.timed_out);
    CHECK_THAT(child.stderr_text, Catch::StartsWith("creel: last words"));
    CHECK_THAT(to_string(child), Catch::StartsWith("child was killed by signal 6"));
}

TEST_CASE("an exception that leaves a child's body terminates it") {
    bool caught_here = false;
    test::child_result child;
    try {
        child = test::run_in_child([] { throw std::runtime_error("nobody catches this"); });
    } catch (...) {
        caught_here = true;
    }
    CHECK_FALSE(caught_here);
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("nobody catches this"));
}

TEST_CASE("a child that does not end is killed at the limit") {
    const auto child = test::run_in_child(
        [] {
            std::fputs("waiting", stderr);
            for (;;)
                ::pause();
        },
        short_limit);
    CHECK(child.timed_out);
    CHECK_FALSE(child.exited);
    CHECK(child.signal == SIGKILL);
    CHECK(child.stderr_text == "waiting");
}

TEST_CASE("a child that writes for ever is killed at the limit and its text is cut") {
    const auto child = test::run_in_child(
        [] {
            const std::string line(4096, 'x');
            for (;;)
                static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
        },
        short_limit);
    CHECK(child.timed_out);
    CHECK(child.stderr_text.size() <= std::size_t{1} << 20);
    CHECK(child.stderr_text.size() >= 65536);
}

TEST_CASE("a grandchild that keeps the pipe open does not hold the parent") {
    std::array<int, 2> hold{};
    REQUIRE(::pipe2(hold.data(), O_CLOEXEC) == 0);
    const auto child = test::run_in_child(
        [&] {
            if (::fork() == 0) { // lives until the test closes its end of the pipe
                ::close(hold[1]);
                char byte = 0;
                static_cast<void>(!::read(hold[0], &byte, 1));
                ::_exit(0);
            }
            std::fputs("parted", stderr);
        },
        std::chrono::hours{1}); // who waits for the grandchild hangs here
    ::close(hold[0]);
    ::close(hold[1]);
    CHECK_FALSE(child.timed_out);
    CHECK(child.exited);
    CHECK(child.stderr_text == "parted");
}

TEST_CASE("more than a pipe holds comes back from a child whole") {
    const auto child = test::run_in_child([] {
        for (int i = 0; i < 30'000; ++i)
            std::cerr << "0123456789";
    });
    CHECK(child.exited);
    CHECK(child.stderr_text.size() == 300'000);
}

TEST_CASE("a child changes nothing of its parent and leaves no descriptor or process") {
    const auto before = test::open_descriptors();
    int value = 1;
    const auto child = test::run_in_child([&] {
        value = 2;
        rlimit core{};
        ::getrlimit(RLIMIT_CORE, &core);
        std::cerr << value << " core " << core.rlim_cur;
    });
    CHECK(child.stderr_text == "2 core 1");
    CHECK(value == 1);
    CHECK(test::open_descriptors() == before);
    const pid_t waited = ::waitpid(-1, nullptr, WNOHANG);
    const int wait_errno = errno;
    CHECK(waited == -1);
    CHECK(wait_errno == ECHILD);
}

TEST_CASE("without a filter io_uring is there, and its calls are refused one by one with one") {
    // A call that is let through finds no ring.
    CHECK(refusals_of({}) == numbers(0, EBADF, EBADF));
    CHECK(refusals_of({.io_uring_setup = EPERM}) == numbers(EPERM, EBADF, EBADF));
    CHECK(refusals_of({.io_uring_setup = ENOSYS}) == numbers(ENOSYS, EBADF, EBADF));
    CHECK(refusals_of({.io_uring_enter = EPERM}) == numbers(0, EPERM, EBADF));
    CHECK(refusals_of({.io_uring_register = EACCES}) == numbers(0, EBADF, EACCES));
    CHECK(refusals_of({ENOSYS, EPERM, ENOMEM}) == numbers(ENOSYS, EPERM, ENOMEM));
    CHECK(setup_errno() == 0); // the filters were the children's
}

TEST_CASE("a filter answers the child's other system calls as before") {
    const auto child = test::run_in_child([] {
        test::refuse({EPERM, EPERM, EPERM});
        const int file = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
        std::cerr << (file >= 0) << (::getpid() > 0);
    });
    CHECK(child.stderr_text == "11");
}

#if defined(__x86_64__)
TEST_CASE("a filter lets no call pass under x32's number for it") {
    constexpr long x32_bit = 0x40000000;
    const auto call = [] {
        io_uring_params params{};
        static_cast<void>(::syscall(x32_bit | SYS_io_uring_setup, 4, &params));
    };
    CHECK(test::run_in_child(call).exited);
    const auto child = test::run_in_child([&] {
        test::refuse({.io_uring_setup = EPERM});
        call();
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGSYS);
}
#endif

TEST_CASE("a filter with what is no errno is refused before it is installed") {
    CHECK_THROWS_AS(test::refuse({.io_uring_setup = 4096}), std::invalid_argument);
    CHECK_THROWS_AS(test::refuse({.io_uring_enter = -1}), std::invalid_argument);
    CHECK(setup_errno() == 0);
}

TEST_CASE("an open descriptor is counted and named until it is closed") {
    const auto before = test::open_descriptors();
    const auto count_before = test::open_descriptor_count();
    CHECK(before.size() == count_before);
    CHECK(std::is_sorted(before.begin(), before.end()));
    CHECK(std::none_of(before.begin(), before.end(), [](const test::open_descriptor& open) {
        return open.target.ends_with("/fd"); // the list being read
    }));

    const int leaked = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    REQUIRE(leaked >= 0);
    const auto with_leak = test::open_descriptors();
    CHECK(test::open_descriptor_count() == count_before + 1);
    CHECK(with_leak != before);
    const test::open_descriptor expected{leaked, "/dev/null"};
    CHECK(std::count(with_leak.begin(), with_leak.end(), expected) == 1);

    ::close(leaked);
    CHECK(test::open_descriptors() == before);
    CHECK(test::open_descriptor_count() == count_before);
}

TEST_CASE("mappings are counted exactly") {
    constexpr std::size_t page_bytes = 65536;  // a multiple of every page size
    constexpr std::size_t split_pages = 2'000; // more lines than one read gives
    const mapping area{page_bytes * (2 * split_pages + 1)};
    const auto before = test::mapping_count();
    CHECK(before > 0);
    for (std::size_t i = 0; i < split_pages; ++i)
        ::mprotect(area.data() + (2 * i + 1) * page_bytes, page_bytes, PROT_NONE);
    const auto split = test::mapping_count();
    ::mprotect(area.data(), page_bytes * (2 * split_pages + 1), PROT_READ | PROT_WRITE);
    CHECK(split == before + 2 * split_pages);
    CHECK(test::mapping_count() == before);
}

TEST_CASE("memory counts as resident when it was touched, and until it is given back") {
    constexpr std::size_t megabyte = std::size_t{1} << 20;
    constexpr std::size_t area_bytes = 64 * megabyte;
    const mapping area{area_bytes};
    ::madvise(area.data(), area_bytes, MADV_NOHUGEPAGE);
    const auto before = test::resident_bytes();
    CHECK(before > 0);
    std::memset(area.data(), 1, area_bytes);
    const auto touched = test::resident_bytes();
    ::madvise(area.data(), area_bytes, MADV_DONTNEED);
    const auto after = test::resident_bytes();
    CHECK(touched > before + area_bytes - megabyte);
    CHECK(after + area_bytes - megabyte < touched);
}

TEST_CASE("the JSON check tells JSON from text that only looks like it") {
    for (const char* good :
         {"{}", "[]", " [1,-2.5e+3,\"a\\n\\u00e9\",null,true,{\"k\":[{}]}] ", "\"\""})
        CHECK(test::is_json(good));
    for (const char* bad : {"", "{", "[1,]", "{\"a\"}", "{\"a\":}", "[{1]", "\"\n\"", "\"\\x\"",
                            "01", "1.", "nul", "[1] 2", "{\"a\":1,}", "'a'"})
        CHECK_FALSE(test::is_json(bad));
}
