// A thread keeps its ring from one run to the next; and rings when the user may lock little memory.
#include "clean_run.hpp"
#include "support/child_process.hpp"

#include <creel/fibers/this_fiber.hpp>
#include <creel/io/detail/ring/kernel_ring.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <grp.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace io = creel::io;
using io::detail::kernel_ring;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

int descriptor_of_run(io::run_options options = {}) {
    return io::run(options, [] { return io::detail::current_ring()->wake_descriptor(); });
}

std::ptrdiff_t rings_open() {
    const auto open = open_descriptors();
    return std::count_if(open.begin(), open.end(), [](const open_descriptor& d) {
        return d.target.find("io_uring") != std::string::npos;
    });
}

// Takes the free descriptor numbers, so that a ring that is closed and made again gets others.
struct occupied_numbers {
    std::array<int, 4> fds{};
    occupied_numbers() {
        for (int& fd : fds)
            fd = ::eventfd(0, EFD_CLOEXEC);
    }
    ~occupied_numbers() {
        for (const int fd : fds)
            ::close(fd);
    }
    occupied_numbers(const occupied_numbers&) = delete;
    occupied_numbers& operator=(const occupied_numbers&) = delete;
};

int refuse_first(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
                 sigset_t* argument, std::size_t bytes) {
    static bool has_refused = false;
    if (!std::exchange(has_refused, true))
        return -EAGAIN;
    return io_uring_enter2(ring, to_submit, wait_for, flags, argument, bytes);
}

} // namespace

TEST_CASE("runs one after another on a thread have one ring, however they end") {
    const int descriptor = descriptor_of_run();
    const occupied_numbers here;
    CHECK_THROWS_AS(io::run([] { throw std::runtime_error{"it fails"}; }), std::runtime_error);
    CHECK(descriptor_of_run() == descriptor);
    io::run([](creel::nursery& root) { // is cut short
        root.spawn([] { creel::this_fiber::sleep_for(1h); });
        root.cancel();
    });
    CHECK(descriptor_of_run() == descriptor);
    CHECK(rings_open() == 1);
}

TEST_CASE("a run with other sizes has another ring, and the one before is closed") {
    const auto entries = [](io::run_options options) {
        static_cast<void>(descriptor_of_run(options));
        CHECK(rings_open() == 1);
        return io::statistics().submission_entries;
    };
    CHECK(entries({.ring_entries = 8}) == 8);
    CHECK(entries({.ring_entries = 16}) == 16);
    CHECK(entries({.ring_entries = 8}) == 8);
}

TEST_CASE("a ring that has refused something is not kept") {
    io::run([] { io::detail::current_ring()->set_enter(&refuse_first); });
    CHECK(rings_open() == 0);
}

TEST_CASE("a thread that ends closes its ring, also where its last run is in a destructor") {
    static_cast<void>(descriptor_of_run()); // the first run of the process opens some for good
    const auto before = descriptors_at_rest();
    std::thread{[] {
        struct last_run {
            ~last_run() { static_cast<void>(descriptor_of_run()); }
        };
        static thread_local const last_run late; // older than the ring, and so destroyed after it
        static_cast<void>(descriptor_of_run());
        CHECK(rings_open() == 1);
    }}.join();
    CHECK(open_descriptors() == before);
}

TEST_CASE("a wake that comes too late for a run is nothing to the next one") {
    auto kernel = std::make_unique<kernel_ring>(io::detail::ring_sizes{8, 0});
    for (int run = 0; run < 3; ++run) {
        io::detail::ring ring{std::move(kernel)};
        ring.wait_until(ring.now()); // reaps the completions that the last run left
        ring.poll();
        const auto before = ring.statistics().completions;
        ring.wake();
        ring.wait_until(creel::time_point::max());
        CHECK(ring.statistics().completions == before + 1);
        ring.end();
        ring.wake();
        CHECK(ring.statistics().operations_in_flight == 0);
        kernel = ring.give_up_kernel();
    }
}

TEST_CASE("the ring that a thread keeps does not hold a connection open that outlives its run") {
    std::array<int, 2> fds{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
    {
        auto stream = io::tcp_stream::adopt(fds[0]);
        bool registered = false;
        io::run([&] {
            std::array<std::byte, 2000> bytes{};
            for (int i = 0; i < 70; ++i) { // a busy stream is in the ring's table of files
                CHECK(::send(fds[1], bytes.data(), bytes.size(), 0) == 2000);
                stream.recv_exact(bytes);
            }
            registered = io::statistics().registered_files == 1;
            CHECK(registered == files_are_registered());
        });
        CHECK(rings_open() == 1);
    }
    char byte = 0;
    CHECK(::recv(fds[1], &byte, 1, MSG_DONTWAIT) == 0);
    ::close(fds[1]);
}

// ---- locked memory ------------------------------------------------------------------------------

namespace {

enum : int { skipped = 77 };

// Runs f as a user that has no other process and may lock so much memory.
void as_user_who_locks(std::size_t bytes, const std::function<void()>& f) {
    if (::getuid() != 0) {
        WARN("skipped: only root can become a user who has no other process");
        return;
    }
    const auto child = run_in_child([&] {
        const rlimit limit{bytes, bytes};
        const auto unused = static_cast<uid_t>(1'000'000 + ::getpid());
        if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || ::setgroups(0, nullptr) != 0 ||
            ::setgid(unused) != 0 || ::setuid(unused) != 0)
            ::_exit(skipped);
        io_uring too_large{};
        if (io_uring_queue_init(32'768, &too_large, 0) != -ENOMEM)
            ::_exit(skipped);
        f();
    });
    if (child.exit_code == skipped) {
        WARN("skipped: no such user can be had, or this kernel does not count what a ring locks");
        return;
    }
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
}

constexpr std::size_t kibibyte = 1024;

} // namespace

TEST_CASE("bug: where one ring can be locked, runs follow one another, on one thread or many") {
    as_user_who_locks(160 * kibibyte, [] { // enough for one ring of the default sizes, not for two
        for (int i = 0; i < 100; ++i) {
            static_cast<void>(descriptor_of_run());
            expect(io::statistics().submission_entries == io::detail::default_ring.submissions);
        }
        kernel_ring::close_kept();
        for (int i = 0; i < 5; ++i)
            std::thread{[] { static_cast<void>(descriptor_of_run()); }}.join();
    });
}

TEST_CASE("where little memory may be locked a ring has smaller queues, and serves as well") {
    as_user_who_locks(64 * kibibyte, [] {
        expect(io::run([] { return clients_answered(100); }) == 100);
        const io::ring_statistics ring = io::statistics();
        expect(ring.submission_entries < io::detail::default_ring.submissions);
        expect(ring.submission_entries >= io::detail::smallest_ring.submissions);
        expect(ring.completion_entries >= io::detail::smallest_ring.completions);
    });
}

TEST_CASE("bug: rings that idle threads keep leave memory for the runs of others") {
    as_user_who_locks(1024 * kibibyte, [] { // enough for seven rings
        std::vector<std::thread> idle;
        std::atomic<bool> over{false};
        for (int i = 0; i < 12; ++i) {
            std::atomic<bool> has_run{false};
            idle.emplace_back([&over, &has_run] {
                static_cast<void>(descriptor_of_run());
                has_run = true;
                has_run.notify_one();
                over.wait(false);
            });
            has_run.wait(false);
        }
        static_cast<void>(descriptor_of_run());
        expect(io::statistics().submission_entries == io::detail::default_ring.submissions);
        over = true;
        over.notify_all();
        for (std::thread& t : idle)
            t.join();
    });
}

TEST_CASE("bug: a ring that was made small for want of memory goes when there is some again") {
    as_user_who_locks(200 * kibibyte, [] {
        std::thread{[] {
            io::run([] {
                std::thread{[] {
                    static_cast<void>(descriptor_of_run());
                    expect(io::statistics().submission_entries <
                           io::detail::default_ring.submissions);
                }}.join();
            });
        }}.join();
        do // the kernel gives the memory back later
            static_cast<void>(descriptor_of_run());
        while (io::statistics().submission_entries < io::detail::default_ring.submissions);
    });
}

TEST_CASE("where not even the smallest ring can be locked, the limit is named") {
    as_user_who_locks(4 * kibibyte, [] {
        const std::string text = error_of([] { io::run([] {}); }).what();
        expect(text.find("io::run: ") == 0 && text.find("ulimit -l") != std::string::npos);
    });
}
