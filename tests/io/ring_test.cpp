#include "clean_run.hpp"
#include "support/settle.hpp"

#include "support/child_process.hpp"
#include "support/seccomp.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/readiness.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

// An eventfd of a test's own.
struct event {
    int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    event() = default;
    ~event() { ::close(fd); }
    event(const event&) = delete;
    event& operator=(const event&) = delete;
    void set() const {
        const std::uint64_t one = 1;
        CHECK(::write(fd, &one, sizeof one) == sizeof one);
    }
};

std::unique_ptr<io::detail::kernel_ring> of_eight_entries() {
    return std::make_unique<io::detail::kernel_ring>(io::detail::ring_sizes{8, 0});
}

// Replaces the system call: refuses the next calls that submit, then passes all on.
std::atomic<int> refusals{0};
int refusing_enter(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
                   sigset_t* argument, std::size_t argument_bytes) {
    if (to_submit > 0 && refusals > 0) {
        --refusals;
        return -EAGAIN;
    }
    return io_uring_enter2(ring, to_submit, wait_for, flags, argument, argument_bytes);
}

// As refusing_enter. Notes whether the first call that may submit again, while `noting`, waits
// without a limit.
bool noting = false;
bool waited_without_limit = false;
int noting_enter(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
                 sigset_t* argument, std::size_t argument_bytes) {
    if (noting && to_submit > 0 && refusals == 0) {
        noting = false;
        waited_without_limit = wait_for > 0 && argument == nullptr;
    }
    return refusing_enter(ring, to_submit, wait_for, flags, argument, argument_bytes);
}

int enter_that_lost_completions(unsigned, unsigned, unsigned, unsigned, sigset_t*, std::size_t) {
    return -EBADR;
}

} // namespace

TEST_CASE("a submission queue of 4 entries serves 10,000 fibers at once", "[stress]") {
    static constexpr int fibers = many_fibers;
    clean_run({.ring_entries = 4}, [] {
        const event shared;
        int woken = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < fibers; ++i)
                n.spawn([&] {
                    io::wait_readable(shared.fd);
                    ++woken;
                });
            settle_and_poll();
            CHECK(io::statistics().operations_in_flight >= fibers);
            CHECK(woken == 0);
            shared.set();
        });
        CHECK(woken == fibers);
    });
}

TEST_CASE("10,000 fibers on a queue of 4 entries are all cancelled", "[stress]") {
    static constexpr int fibers = many_fibers;
    clean_run({.ring_entries = 4}, [] {
        const event never;
        int ended = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < fibers; ++i)
                n.spawn([&] {
                    try {
                        io::wait_readable(never.fd);
                    } catch (const creel::cancelled&) {
                        ++ended;
                        throw;
                    }
                });
            settle_and_poll();
            n.cancel();
        });
        CHECK(ended == fibers);
    });
}

TEST_CASE("more completions than the completion queue holds are all delivered") {
    static constexpr int fibers = many_fibers / 2;
    clean_run({.ring_entries = 4, .completion_entries = 4}, [] {
        const event shared;
        shared.set(); // each wait then completes when it is submitted
        int woken = 0;
        int rounds = 0;
        // On a slow machine the scheduler may poll before enough fibers have submitted, above all
        // in the first round, which makes the stacks.
        do
            creel::with_nursery([&](creel::nursery& n) {
                for (int i = 0; i < fibers; ++i)
                    n.spawn([&] {
                        io::wait_readable(shared.fd);
                        ++woken;
                    });
            });
        while (++rounds < 100 && io::statistics().overflows == 0);
        CHECK(woken == rounds * fibers);
        CHECK(io::statistics().completions >= fibers);
        CHECK(io::statistics().overflows > 0); // otherwise this has tested nothing
    });
}

TEST_CASE("traffic goes through a ring of one entry") {
    clean_run({.ring_entries = 1, .completion_entries = 2}, [] {
        const int answered = clients_answered(20);
        CHECK(answered == 20);
    });
}

TEST_CASE("a kernel that refuses submissions for a while makes fibers wait, not fail") {
    clean_run({.ring_entries = 4}, [] {
        io::detail::current_ring()->set_enter(&refusing_enter);
        constexpr int fibers = 100;
        const event shared;
        int woken = 0;
        creel::with_nursery([&](creel::nursery& n) {
            refusals = 50;
            for (int i = 0; i < fibers; ++i)
                n.spawn([&] {
                    io::wait_readable(shared.fd);
                    ++woken;
                });
            settle_and_poll();
            shared.set();
        });
        CHECK(woken == fibers);
        CHECK(refusals == 0);
        CHECK(io::statistics().room_waits > 0);
    });
}

TEST_CASE("bug: the cancel of a receive that the kernel refused waits for no other completion") {
    clean_run([] {
        auto [a, b] = stream_pair();
        if (!receives_stand())
            return;
        for (int i = 0; i < 8; ++i) { // the next receive stands
            b.send_all(bytes_of("x"));
            CHECK(recv_text(a) == "x");
        }
        creel::with_nursery([&, &a = a, &b = b](creel::nursery& n) {
            std::string received;
            n.spawn([&] { received = recv_text(a); });
            refusals = 1'000'000;
            io::detail::current_ring()->set_enter(&noting_enter);
            settle_and_poll(); // the receive has an entry, and the kernel has not taken it
            refusals = 1;
            noting = true;
            static_cast<void>(a.native_handle()); // ends the receive
            CHECK(refusals == 0);
            CHECK_FALSE(noting);
            CHECK_FALSE(waited_without_limit);
            b.send_all(bytes_of("y"));
            settle_and_poll();
            CHECK(received == "y");
        });
    });
}

// After each enter it sends a byte to a stream whose receive stands: so the ring has task work left
// whenever it looks.
int busy_fd = -1;
int busy_enters = 0;
int busy_enter(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
               sigset_t* argument, std::size_t bytes) {
    const int result = io_uring_enter2(ring, to_submit, wait_for, flags, argument, bytes);
    if (++busy_enters < 10'000)
        static_cast<void>(::send(busy_fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
    return result;
}

TEST_CASE("bug: a cancel does not wait until the ring has no task work left") {
    clean_run([] {
        auto [busy, sender] = stream_pair();
        auto [silent, other] = stream_pair();
        for (int i = 0; i < 10; ++i) { // its receive stands
            sender.send_all(bytes_of("x"));
            CHECK(recv_text(busy) == "x");
        }
        busy_fd = sender.native_handle();
        busy_enters = 0;
        bool ended = false;
        creel::with_nursery([&, &busy = busy, &silent = silent](creel::nursery& n) {
            n.spawn([&] {
                while (!ended)
                    static_cast<void>(recv_text(busy));
            });
            io::detail::current_ring()->set_enter(&busy_enter);
            std::array<std::byte, 8> buffer;
            CHECK_FALSE(creel::move_on_after(1ms, [&] { return silent.recv(buffer); }));
            CHECK(busy_enters < 10'000);
            ended = true;
            io::detail::current_ring()->set_enter(&io_uring_enter2);
            sender.send_all(bytes_of("x"));
        });
    });
}

// Both receives are woken as they are armed, and are in no table when their cancels come. One then
// takes the byte, and the other waits.
TEST_CASE("bug: a cancel that does not find its operation is asked for again") {
    for (const unsigned entries : {4U, 1024U}) {
        INFO("entries: " << entries);
        clean_run({.ring_entries = entries}, [] {
            auto [sender, one] = stream_pair();
            auto other = io::tcp_stream::adopt(::dup(one.native_handle()));
            sender.send_all(bytes_of("x"));
            int received = 0;
            int was_cancelled = 0;
            std::array<creel::cancel_scope, 2> scopes;
            const auto receive = [&](io::tcp_stream& stream, creel::cancel_scope& scope) {
                std::array<std::byte, 8> buffer;
                ++(scope.run([&] { return stream.recv(buffer); }) ? received : was_cancelled);
            };
            creel::with_nursery([&, &one = one](creel::nursery& n) {
                n.spawn([&] { receive(one, scopes[0]); });
                n.spawn([&] { receive(other, scopes[1]); });
                creel::this_fiber::yield(); // both have an entry that is not submitted
                for (auto& scope : scopes)
                    scope.cancel();
            });
            CHECK(received == 1);
            CHECK(was_cancelled == 1);
        });
    }
}

TEST_CASE("bug: a cancel gets its turn although fibers fill the submission queue at each poll") {
    clean_run({.ring_entries = 1}, [] {
        auto [sender, receiver] = stream_pair();
        auto [silent, other] = stream_pair();
        bool ended = false;
        creel::with_nursery(
            [&, &sender = sender, &receiver = receiver, &silent = silent](creel::nursery& n) {
                const std::array<std::byte, 2000> message{}; // too long for a standing receive
                n.spawn([&] {
                    while (!ended)
                        sender.send_all(message);
                    sender.shutdown_send();
                });
                n.spawn([&] {
                    std::array<std::byte, 2000> buffer;
                    while (receiver.recv(buffer) != 0) {
                    }
                });
                std::array<std::byte, 8> buffer;
                CHECK_FALSE(creel::move_on_after(1ms, [&] { return silent.recv(buffer); }));
                ended = true;
            });
    });
}

TEST_CASE("a fiber that waits for room in the submission queue can be cancelled") {
    clean_run({.ring_entries = 4}, [] {
        io::detail::current_ring()->set_enter(&refusing_enter);
        const event never;
        int ended = 0;
        creel::with_nursery([&](creel::nursery& n) {
            refusals = 1'000'000;
            for (int i = 0; i < 20; ++i)
                n.spawn([&] {
                    try {
                        io::wait_readable(never.fd);
                    } catch (const creel::cancelled&) {
                        ++ended;
                        throw;
                    }
                });
            settle_and_poll();
            CHECK(io::statistics().room_waits > 0);
            n.cancel();
            settle_and_poll();
            CHECK(ended >= 16); // all but the operations with an entry in the queue already
            refusals = 0;
        });
        CHECK(ended == 20);
    });
}

TEST_CASE("a fiber that yields for ever starves neither I/O nor deadlines nor a cancel") {
    clean_run([] {
        auto [a, b] = stream_pair();
        creel::with_nursery([&, &a = a, &b = b](creel::nursery& n) {
            n.spawn([] {
                for (;;)
                    creel::this_fiber::yield();
            });
            b.send_all(bytes_of("x"));
            CHECK(recv_text(a) == "x");
            CHECK_FALSE(creel::move_on_after(1ms, [&] { static_cast<void>(recv_text(a)); }));
            n.cancel();
        });
    });
}

TEST_CASE(
    "a fiber that passes cancellation points and never waits starves neither I/O nor deadlines") {
    clean_run([] {
        auto [a, b] = stream_pair();
        creel::with_nursery([&, &a = a](creel::nursery& n) {
            n.spawn([] {
                for (;;)
                    creel::this_fiber::checkpoint();
            });
            b.send_all(bytes_of("x"));
            CHECK(recv_text(a) == "x");
            CHECK_FALSE(creel::move_on_after(1ms, [&] { static_cast<void>(recv_text(a)); }));
            n.cancel();
        });
    });
}

TEST_CASE("an idle ring enters the kernel at most once per wait") {
    clean_run([] {
        creel::this_fiber::sleep_for(1ms);
        const std::uint64_t before = io::statistics().enters;
        for (int i = 0; i < 10; ++i)
            creel::this_fiber::sleep_for(1ms);
        // A thread that was preempted may find a deadline passed, and does not enter for it.
        CHECK(io::statistics().enters - before <= 12);
    });
}

namespace {

// The cost of 100 round trips of such a message between two fibers, after some that do not count.
io::ring_statistics cost_of_round_trips(std::size_t size_bytes) {
    io::ring_statistics cost;
    auto [first, second] = stream_pair();
    creel::with_nursery([&, &a = first, &b = second](creel::nursery& n) {
        n.spawn([&] {
            for (std::string got = recv_text(a); !got.empty(); got = recv_text(a))
                a.send_all(bytes_of(got));
        });
        const std::string message(size_bytes, 'x');
        const auto round_trips = [&](int times) {
            for (int i = 0; i < times; ++i) {
                b.send_all(bytes_of(message));
                CHECK(recv_text(b) == message);
            }
        };
        round_trips(20);
        const io::ring_statistics before = io::statistics();
        round_trips(100);
        const io::ring_statistics after = io::statistics();
        cost.operations_submitted = after.operations_submitted - before.operations_submitted;
        cost.enters = after.enters - before.enters;
        b.close();
    });
    return cost;
}

} // namespace

TEST_CASE("a round trip of two fibers costs one system call per batch of operations") {
    clean_run([] {
        const io::ring_statistics cost = cost_of_round_trips(2000);
        CHECK(cost.operations_submitted == 400);
        CHECK(cost.enters <= 410);
    });
}

TEST_CASE("a round trip with a short message takes no operation for its receives") {
    clean_run([] {
        const io::ring_statistics cost = cost_of_round_trips(100);
        CHECK(cost.operations_submitted == (receives_stand() ? 200 : 400));
        CHECK(cost.enters <= 410);
    });
}

TEST_CASE("wake makes the current or else the next wait return, from any thread") {
    const auto before = open_descriptors();
    {
        io::detail::ring ring{of_eight_entries()};
        ring.wake();
        ring.wait_until(creel::time_point::max()); // latched: returns
        std::thread other{[&] { ring.wake(); }};
        // A wait may end early for no reason. The test fails if it never ends.
        ring.wait_until(creel::time_point::max());
        other.join();
        ring.end();
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a ring does not wait for a time that has passed, be it before the clock's beginning") {
    io::detail::ring ring{of_eight_entries()};
    ring.wait_until(ring.now()); // the first wait submits entries; the next ones have none
    ring.wait_until(creel::time_point{});
    ring.wait_until(creel::time_point::min());
    CHECK(ring.statistics().completions == 0); // it was the time that ended them
    ring.end();
}

TEST_CASE("a thousand wakes of a ring that is busy make one completion") {
    io::detail::ring ring{of_eight_entries()};
    ring.poll(); // hands over the wake read
    const std::uint64_t before = ring.statistics().completions;
    for (int i = 0; i < 1000; ++i)
        ring.wake();
    ring.wait_until(creel::time_point::max());
    CHECK(ring.statistics().completions == before + 1);
    ring.wake(); // the first wake has been taken, so this one completes too
    ring.wait_until(creel::time_point::max());
    CHECK(ring.statistics().completions == before + 2);
    ring.end();
}

TEST_CASE("a ring that is ended with a wake still on its way ends as any other") {
    const auto before = open_descriptors();
    {
        io::detail::ring ring{of_eight_entries()};
        ring.wake();
        ring.end();
        CHECK(ring.statistics().operations_in_flight == 0);
        ring.wake(); // no wait will take it
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("where the kernel refuses messages to a ring, wake goes another way") {
    // A wait that is not woken ends after 10 s all the same: three of them are beyond the limit.
    const child_result refused = run_in_child(
        [] {
            io::detail::ring ring{of_eight_entries()};
            refuse({.io_uring_register = ENOMEM});
            for (int i = 0; i < 3; ++i) {
                ring.wake();
                ring.wait_until(creel::time_point::max());
            }
            ring.end();
        },
        25s);
    INFO(to_string(refused));
    CHECK(refused.exited);
    CHECK(refused.exit_code == 0);
    CHECK(refused.stderr_text.empty());
}

TEST_CASE("a system call of the ring that fails for good ends the process and names the error") {
    const child_result child = run_in_child([] {
        io::detail::ring ring{of_eight_entries()};
        ring.set_enter(&enter_that_lost_completions);
        ring.poll();
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text,
               Catch::Contains("io_uring_enter failed with EBADR (53): the kernel lost"));
}

TEST_CASE("wait_until is over by the deadline and not before") {
    io::detail::ring ring{of_eight_entries()};
    const creel::time_point deadline = ring.now() + 2ms;
    while (ring.now() < deadline)
        ring.wait_until(deadline);
    const std::uint64_t enters = ring.statistics().enters;
    ring.wait_until(deadline); // has passed: does not block
    CHECK(ring.statistics().enters <= enters + 1);
    CHECK(enters <= 3);
    ring.end();
}

TEST_CASE("poll with nothing to do makes no system call") {
    io::detail::ring ring{of_eight_entries()};
    ring.poll(); // hands over the wake read
    const std::uint64_t enters = ring.statistics().enters;
    for (int i = 0; i < 100; ++i)
        ring.poll();
    CHECK(ring.statistics().enters == enters);
    ring.end();
    CHECK(ring.statistics().operations_in_flight == 0);
}
