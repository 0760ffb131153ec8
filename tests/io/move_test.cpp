// A stream on another thread than its ring's: its first call there moves it, or it is dropped.
#include "clean_run.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

TEST_CASE("a stream moves to another thread, is used and dropped there") {
    clean_run([] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("from here"));
        std::thread other{[b = std::move(b)]() mutable {
            io::run([&] {
                b.send_all(bytes_of(recv_text(b) + ", echoed there"));
                const auto dropped = std::move(b);
            });
        }};
        CHECK(recv_text(a) == "from here, echoed there");
        CHECK(recv_text(a).empty());
        other.join();
    });
}

TEST_CASE("a busy stream moves to another thread, and what the old ring held of it goes") {
    clean_run([] {
        const std::uint64_t one = files_are_registered() ? 1 : 0;
        auto [a, b] = stream_pair();
        for (int i = 0; i < 100; ++i) {
            a.send_all(bytes_of("x"));
            CHECK(recv_text(b) == "x");
        }
        CHECK(io::statistics().registered_files == 2 * one);
        a.send_all(bytes_of("from here"));
        std::thread other{[b = std::move(b)]() mutable {
            io::run([&] {
                b.send_all(bytes_of(recv_text(b)));
                const auto dropped = std::move(b);
            });
        }};
        CHECK(recv_text(a) == "from here");
        CHECK(recv_text(a).empty());
        CHECK(io::statistics().registered_files == one);
        other.join();
    });
}

TEST_CASE("a stream is dropped or closed while its first call on another thread waits for it") {
    const bool dropped = GENERATE(true, false);
    clean_run([&] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("from here"));
        CHECK(recv_text(b) == "from here");
        std::atomic<bool> all_there{false};
        std::array<std::optional<std::system_error>, 3> ends;
        std::thread other{[&, moved = std::optional{std::move(a)}]() mutable {
            io::run([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn(
                        [&] { ends[0] = error_of([&] { static_cast<void>(moved->pending()); }); });
                    n.spawn(
                        [&] { ends[1] = error_of([&] { static_cast<void>(recv_text(*moved)); }); });
                    n.spawn([&] { ends[2] = error_of([&] { moved->send_all(bytes_of("x")); }); });
                    settle_and_poll();
                    if (dropped)
                        moved.reset();
                    else
                        n.spawn([&] { moved->close(); });
                    settle_and_poll();
                    all_there = true;
                    all_there.notify_one();
                });
            });
        }};
        all_there.wait(false);
        if (!dropped)
            CHECK(recv_text(b) == "x"); // the send came first, and had room
        CHECK(recv_text(b).empty());
        other.join();
        CHECK(ends[1]->code() == std::errc::bad_file_descriptor);
        if (dropped) {
            CHECK(ends[0]->code() == std::errc::bad_file_descriptor);
            CHECK(ends[2]->code() == std::errc::bad_file_descriptor);
        }
    });
}

namespace {

// The first call on another thread is cancelled, while this thread does not poll its ring.
void cancelled_move(io::tcp_stream& stream) {
    bool absorbed = false;
    std::thread{[&] {
        io::run([&] {
            creel::cancel_scope scope;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    settle_and_poll();
                    scope.cancel();
                });
                absorbed = !scope.run([&] { static_cast<void>(recv_text(stream)); });
            });
        });
    }}.join();
    CHECK(absorbed);
}

// Two streams of this thread's ring. The second has a standing receive if `standing`.
std::pair<io::tcp_stream, io::tcp_stream> used_pair(bool standing) {
    auto two = stream_pair();
    for (int i = 0; i < (standing ? 10 : 1); ++i) {
        two.first.send_all(bytes_of("x"));
        CHECK(recv_text(two.second) == "x");
    }
    return two;
}

} // namespace

TEST_CASE("the first call on another thread is cancelled although the old thread is busy") {
    const bool standing = GENERATE(false, true);
    clean_run([&] { // then the old thread goes on with the stream
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        CHECK_FALSE(creel::move_on_after(0s, [&b = b] { static_cast<void>(recv_text(b)); }));
        a.send_all(bytes_of("late"));
        CHECK(recv_text(b) == "late");
    });
    clean_run([&] { // the old thread answers before it uses the stream
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        settle_and_poll();
        a.send_all(bytes_of("late"));
        CHECK(recv_text(b) == "late");
    });
    clean_run([&] { // a third thread takes the stream
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        a.send_all(bytes_of("late"));
        std::thread other{[moved = std::move(b)]() mutable {
            io::run([&] {
                moved.send_all(bytes_of(recv_text(moved)));
                const auto gone = std::move(moved);
            });
        }};
        CHECK(recv_text(a) == "late");
        CHECK(recv_text(a).empty());
        other.join();
    });
    clean_run([&] { // the stream is dropped, on this thread or on another
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        std::thread{[gone = std::move(b)] {}}.join();
        CHECK(recv_text(a).empty());
        auto [c, d] = used_pair(standing);
        cancelled_move(d);
        settle_and_poll();
        { const auto gone = std::move(d); }
        CHECK(recv_text(c).empty());
    });
    std::optional<io::tcp_stream> left; // its thread ends the run, and then answers
    io::run([&] {
        auto [a, b] = used_pair(standing);
        cancelled_move(b);
        a.send_all(bytes_of("late"));
        left = std::move(b);
    });
    CHECK(left->native_handle() >= 0);
    io::run([&] {
        CHECK(recv_text(*left) == "late");
        left.reset();
    });
}

namespace {

// Calls f in a cancelled scope. Returns the number of bytes that its partial_cancelled names; empty
// if it throws no such error.
template <typename F>
std::optional<std::size_t> moved_when_cancelled(F f) {
    std::optional<std::size_t> moved;
    creel::cancel_scope scope;
    scope.cancel();
    static_cast<void>(scope.run([&] {
        try {
            f();
        } catch (const creel::partial_cancelled& why) {
            moved = why.bytes_moved();
            throw;
        }
    }));
    return moved;
}

} // namespace

TEST_CASE(
    "bug: a cancelled send_all or recv_exact says that it moved nothing, as a first call too") {
    clean_run([] {
        auto [a, b] = stream_pair();
        CHECK(moved_when_cancelled([&a = a] { a.send_all(bytes_of("x")); }) == 0);
        std::array<std::byte, 1> room{};
        CHECK(moved_when_cancelled([&, &b = b] { b.recv_exact(room); }) == 0);
        auto [c, d] = used_pair(false); // the next call comes from another thread
        std::optional<std::size_t> moved;
        std::thread{[&, &d = d] {
            io::run([&] { moved = moved_when_cancelled([&] { d.recv_exact(room); }); });
        }}.join();
        CHECK(moved == 0);
        c.send_all(bytes_of("late"));
        CHECK(recv_text(d) == "late");
    });
}

TEST_CASE("the first native_handle() of a stream is no cancellation point, nor is its release()") {
    clean_run([] {
        auto [a, b] = stream_pair();
        creel::cancel_scope scope;
        scope.cancel();
        int released = -1;
        CHECK(scope.run([&, &a = a, &b = b] {
            static_cast<void>(a.native_handle());
            released = b.release();
        }));
        CHECK(::close(released) == 0);
    });
}

TEST_CASE("a stream dropped on a plain thread is closed by its ring") {
    clean_run([] {
        auto [a, b] = stream_pair();
        a.send_all(bytes_of("x")); // now it belongs to this ring
        CHECK(recv_text(b) == "x");
        std::thread other{[a = std::move(a)] {}};
        CHECK(recv_text(b).empty());
        other.join();
    });
}
