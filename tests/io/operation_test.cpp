#include "clean_run.hpp"
#include "support/child_process.hpp"
#include "support/settle.hpp"

#include <creel/fibers/scheduler.hpp>
#include <creel/io/detail/ring/operation.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/readiness.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

struct pipe_pair {
    std::array<int, 2> ends{};

    pipe_pair() {
        if (::pipe2(ends.data(), O_CLOEXEC) < 0)
            throw std::system_error(errno, std::generic_category(), "pipe2");
    }
    ~pipe_pair() {
        close_reader();
        close_writer();
    }
    void close_reader() { close_end(0); }
    void close_writer() { close_end(1); }
    void close_end(std::size_t which) {
        if (ends[which] >= 0)
            ::close(ends[which]);
        ends[which] = -1;
    }
};

constexpr creel::waiter_kind plain_operation{&io::detail::withdraw_operation,
                                             [](const creel::waiter&, std::string&) {}, true};

} // namespace

TEST_CASE("a zero-copy send gives its bytes, and not the notification that ends it") {
    clean_run([] {
        auto [a, b] = tcp_pair();
        const int fd = a.native_handle();
        const std::array<char, 5> text{'h', 'e', 'l', 'l', 'o'};
        io::detail::ring& r = *io::detail::current_ring();
        io::detail::operation op{plain_operation, r, fd};
        REQUIRE(r.has_room());
        r.perform(op, [&](io_uring_sqe& entry) {
            io_uring_prep_send_zc(&entry, fd, text.data(), text.size(), MSG_NOSIGNAL, 0);
        });
        CHECK(op.result == 5);
        CHECK((op.flags & IORING_CQE_F_NOTIF) == 0);
        CHECK(recv_text(b) == "hello");
        CHECK(io::statistics().operations_in_flight == 0);
    });
}

TEST_CASE("wait_readable returns when there is data, and at a hang-up") {
    clean_run([] {
        pipe_pair pipe;
        int stage = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                io::wait_readable(pipe.ends[0]);
                CHECK(stage == 1);
                char c = 0;
                CHECK(::read(pipe.ends[0], &c, 1) == 1);
                io::wait_readable(pipe.ends[0]);
                CHECK(stage == 2);
            });
            settle_and_poll();
            stage = 1;
            CHECK(::write(pipe.ends[1], "x", 1) == 1);
            settle_and_poll();
            stage = 2;
            pipe.close_writer();
        });
    });
}

TEST_CASE("wait_writable returns when there is room") {
    clean_run([] {
        auto [a, b] = stream_pair();
        io::wait_writable(a.native_handle());
        std::vector<std::byte> much(std::size_t{1} << 20);
        ssize_t filled = 0;
        for (ssize_t n = 0; n >= 0; filled += std::max<ssize_t>(n, 0))
            n = ::send(a.native_handle(), much.data(), much.size(), MSG_DONTWAIT);
        bool drained = false;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                io::wait_writable(a.native_handle());
                CHECK(drained);
            });
            settle_and_poll();
            drained = true;
            std::vector<std::byte> sink(static_cast<std::size_t>(filled));
            b.recv_exact(sink);
        });
    });
}

TEST_CASE("several fibers wait for one descriptor") {
    clean_run([] {
        pipe_pair pipe;
        int woken = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    io::wait_readable(pipe.ends[0]);
                    ++woken;
                });
            settle_and_poll();
            CHECK(::write(pipe.ends[1], "x", 1) == 1);
        });
        CHECK(woken == 3);
    });
}

TEST_CASE("a wait on a closed number is an error that names it") {
    clean_run([] {
        const auto error = error_of([] { io::wait_readable(1'000'000); });
        CHECK(error.code() == std::errc::bad_file_descriptor);
        CHECK_THAT(error.what(), Catch::StartsWith("wait_readable on descriptor 1000000: "));
    });
}

TEST_CASE("the dump says in words what each fiber waits for") {
    clean_run([](creel::nursery&) {
        auto [a, b] = stream_pair();
        pipe_pair pipe;
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        std::optional<io::tcp_stream> peer;
        std::optional<io::tcp_stream> client;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { peer = listener.accept(); });
            client = io::tcp_stream::connect(listener.local_endpoint());
        });
        std::string text;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { static_cast<void>(recv_text(*client)); });
            n.spawn([&] { const auto never = listener.accept(); });
            n.spawn([&] { io::wait_readable(pipe.ends[0]); });
            n.spawn([&] {
                const std::vector<std::byte> much(std::size_t{64} << 20);
                client->send_all(much);
            });
            settle_and_poll();
            text = creel::list_fibers();
            n.cancel();
        });
        CHECK_THAT(text, Catch::Contains("recv from " + listener.local_endpoint().to_string()));
        CHECK_THAT(text, Catch::Contains("send to " + listener.local_endpoint().to_string()));
        CHECK_THAT(text, Catch::Contains("accept on " + listener.local_endpoint().to_string()));
        CHECK_THAT(text, Catch::Contains("readable descriptor " + std::to_string(pipe.ends[0])));
    });
}

TEST_CASE("a fiber resumes only when the kernel is done with its operation") {
    // The buffer's memory is freed when the fiber ends. ASan sees a late write by the kernel only
    // when the bytes are read back. So this checks the counter: the operation is in flight to the
    // very end.
    clean_run([] {
        auto [a, b] = stream_pair();
        std::uint64_t in_flight_at_end = 99;
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([&] {
                try {
                    static_cast<void>(recv_text(a));
                } catch (const creel::cancelled&) {
                    in_flight_at_end = io::statistics().operations_in_flight;
                    throw;
                }
            });
            settle_and_poll();
            CHECK(io::statistics().operations_in_flight == 1);
            n.cancel();
            CHECK(io::statistics().operations_in_flight == 1);
        });
        CHECK(in_flight_at_end <= 1); // at most the cancel's own completion is still to come
        CHECK(io::statistics().operations_in_flight == 0);
    });
}
