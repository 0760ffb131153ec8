// send_all and recv_exact are cancelled in the middle: the count that they report is exact.
#include "bell.hpp"
#include "clean_run.hpp"
#include "support/seed.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

// The part of `whole` that f has moved, according to its partial_cancelled.
template <typename F>
std::size_t moved_by(creel::cancel_scope& scope, std::size_t whole, F f) {
    std::size_t moved = whole;
    scope.run([&] {
        try {
            f();
        } catch (const creel::partial_cancelled& why) {
            moved = why.bytes_moved();
            throw;
        }
    });
    return moved;
}

} // namespace

TEST_CASE("a send_all that a deadline cuts has sent what it tells to a slow reader") {
    const bool tcp = GENERATE(true, false);
    clean_run([&] {
        auto [a, b] = tcp ? tcp_pair() : stream_pair();
        const std::vector<std::byte> sent = pattern(std::size_t{under_tsan ? 16 : 32} << 20);
        std::vector<std::byte> got;
        std::size_t moved = sent.size();
        bool cut = false;
        creel::with_nursery([&, &a = a, &b = b](creel::nursery& n) {
            n.spawn([&] {
                creel::cancel_scope scope{creel::clock::now() + 5ms};
                moved = moved_by(scope, sent.size(), [&] { a.send_all(sent); });
                cut = true;
                a.shutdown_send();
            });
            std::vector<std::byte> piece(50'000);
            for (;;) {
                // The reader is slow, and after a part it stops until the deadline has come.
                while (!cut && got.size() > std::size_t{1} << 20)
                    creel::this_fiber::yield();
                const std::size_t bytes = b.recv(piece);
                if (bytes == 0)
                    break;
                got.insert(got.end(), piece.begin(),
                           piece.begin() + static_cast<std::ptrdiff_t>(bytes));
                creel::this_fiber::yield();
            }
        });
        CHECK(moved < sent.size());
        CHECK(got.size() == moved);
        CHECK(std::equal(got.begin(), got.end(), sent.begin()));
    });
}

TEST_CASE("a recv_exact that is cut while the peer writes has received what it tells") {
    const auto seed = printed_seed("recv_exact cut");
    INFO("seed " << seed);
    const bool standing = GENERATE(true, false);
    clean_run([&] {
        std::mt19937 random{seed};
        auto [a, b] = stream_pair();
        if (!standing)
            static_cast<void>(a.native_handle());
        const std::vector<std::byte> sent = pattern(100'000);
        std::vector<std::byte> got;
        std::size_t written = 0;
        int cut = 0;
        int wrong = 0;
        while (written + 1000 < sent.size()) {
            creel::cancel_scope scope;
            std::vector<std::byte> buffer(600);
            std::size_t moved = 0;
            creel::with_nursery([&, &a = a, &b = b](creel::nursery& n) {
                n.spawn(
                    [&] { moved = moved_by(scope, buffer.size(), [&] { a.recv_exact(buffer); }); });
                for (int i = 0; i < 3; ++i) {
                    const std::size_t part = random() % 300 + 1;
                    b.send_all(std::span{sent}.subspan(written, part));
                    written += part;
                    for (auto yields = random() % 3; yields > 0; --yields)
                        creel::this_fiber::yield();
                }
                scope.cancel();
            });
            cut += moved < buffer.size() ? 1 : 0;
            got.insert(got.end(), buffer.begin(),
                       buffer.begin() + static_cast<std::ptrdiff_t>(moved));
            for (std::size_t i = moved; i < buffer.size(); ++i)
                wrong += buffer[i] != std::byte{0} ? 1 : 0;
        }
        std::vector<std::byte> rest(written - got.size());
        a.recv_exact(rest);
        got.insert(got.end(), rest.begin(), rest.end());
        CHECK(wrong == 0);
        CHECK(cut > 0);
        CHECK(std::equal(got.begin(), got.end(), sent.begin()));
    });
}

TEST_CASE("a recv_exact that is cancelled in the poll in which bytes come counts them") {
    const auto [last, moved, left] =
        GENERATE(table<std::string, std::size_t, std::string>({{"def", 6, ""}, {"de", 5, "f"}}));
    INFO("the last bytes: " << last);
    clean_run([&, &last = last, &moved = moved, &left = left] {
        auto [a, b] = stream_pair();
        const bell cancel;
        for (int i = 0; i < 20; ++i) {
            std::array<std::byte, 6> buffer{};
            std::size_t told = 0;
            creel::with_nursery([&, &a = a, &b = b](creel::nursery& n) {
                creel::cancel_scope scope;
                n.spawn([&] {
                    cancel.wait();
                    scope.cancel();
                });
                n.spawn(
                    [&] { told = moved_by(scope, buffer.size(), [&] { a.recv_exact(buffer); }); });
                b.send_all(bytes_of("abc"));
                settle_and_poll();
                cancel.ring();
                CHECK(::write(b.native_handle(), last.data(), last.size()) ==
                      static_cast<ssize_t>(last.size()));
                while (n.children() != 0)
                    creel::this_fiber::yield();
            });
            CHECK(told == moved);
            CHECK(text_of(std::span{buffer}.first(told)) == "abc" + last);
            if (!left.empty()) {
                b.send_all(bytes_of(left));
                CHECK(recv_text(a) == left);
            }
        }
    });
}

TEST_CASE("a send_all that races with its cancel tells exactly what the peer gets") {
    clean_run([] {
        auto [a, b] = stream_pair();
        const std::vector<std::byte> much(std::size_t{4} << 20);
        std::vector<std::byte> room(std::size_t{1} << 20);
        const bell cancel;
        const auto drain = [&, &b = b] {
            std::size_t all = 0;
            ssize_t n = 0;
            while ((n = ::recv(b.native_handle(), room.data(), room.size(), MSG_DONTWAIT)) > 0)
                all += static_cast<std::size_t>(n);
            return all;
        };
        for (int i = 0; i < 50; ++i) {
            std::size_t told = 0;
            std::size_t read = 0;
            creel::with_nursery([&, &a = a](creel::nursery& n) {
                creel::cancel_scope scope;
                n.spawn([&] {
                    cancel.wait();
                    scope.cancel();
                });
                n.spawn([&] { told = moved_by(scope, much.size(), [&] { a.send_all(much); }); });
                settle_and_poll(); // now it waits for room
                cancel.ring();
                read = drain(); // now it has some, in the poll that brings the cancel
                while (n.children() != 0)
                    creel::this_fiber::yield();
            });
            read += drain();
            CHECK(told == read);
            CHECK(read < much.size());
        }
    });
}
