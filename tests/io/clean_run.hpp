// io::run for tests: fails on whatever a run leaves behind, and on a run that hangs.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/detail/ring.hpp>
#include <creel/io/run.hpp>
#include <creel/io/tcp_listener.hpp>
#include <creel/io/tcp_stream.hpp>
#include <support/open_descriptors.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>
#include <sys/socket.h>
#include <unistd.h>

namespace creel::test {

// TSan takes part in at most 8,128 threads and fibers.
#if defined(__SANITIZE_THREAD__)
inline constexpr int many_fibers = 2'000;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr int many_fibers = 2'000;
#else
inline constexpr int many_fibers = 10'000;
#endif
#else
inline constexpr int many_fibers = 10'000;
#endif

// The counters of the thread's last run that must be zero, and the descriptors. "in debug mode a
// fiber that resumed ..." in run_test.cpp sees the first fail.
inline void check_nothing_left(const std::vector<open_descriptor>& before) {
    const io::ring_statistics left = io::statistics();
    CHECK(left.operations_in_flight == 0);
    CHECK(left.operations_completed == left.operations_submitted);
    CHECK(left.late_descriptors == 0);
    CHECK(left.buffers_out == 0);
    CHECK(left.registered_files == 0);
    const auto after = open_descriptors();
    for (const open_descriptor& d : after) {
        INFO("descriptor " << d.number << ": " << d.target);
        CHECK(std::find(before.begin(), before.end(), d) != before.end());
    }
    CHECK(after.size() == before.size());
}

// Runs f, which may take the root nursery. Longer than the limit: timed_out, and so a failure.
template <typename F>
void clean_run(io::run_options options, F&& f) {
    using namespace std::chrono_literals;
    const auto before = open_descriptors();
    io::run(options, [&](nursery& root) {
        fail_after(50s, [&] {
            if constexpr (std::invocable<F&, nursery&>)
                f(root);
            else
                f();
        });
    });
    check_nothing_left(before);
}

template <typename F>
void clean_run(F&& f) {
    clean_run(io::run_options{}, std::forward<F>(f));
}

// What the kernel can do, asked inside a run: see older_kernel.cpp.
inline bool receives_stand() {
    return io::detail::current_ring()->receives_may_stand();
}
inline bool files_are_registered() {
    return io::detail::current_ring()->files().usable();
}

// Two connected streams.
inline std::pair<io::tcp_stream, io::tcp_stream> stream_pair() {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) < 0)
        throw std::system_error(errno, std::generic_category(), "socketpair");
    return {io::tcp_stream::adopt(fds[0]), io::tcp_stream::adopt(fds[1])};
}

// The same over TCP.
inline std::pair<io::tcp_stream, io::tcp_stream> tcp_pair() {
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};
    auto client = io::tcp_stream::connect(listener.local_endpoint()); // the backlog has room
    return {std::move(client), listener.accept()};
}

// Bytes in which a piece that is lost, doubled or out of place shows.
inline std::vector<std::byte> pattern(std::size_t size_bytes) {
    std::vector<std::byte> bytes(size_bytes);
    std::uint32_t x = 1;
    for (std::byte& b : bytes) {
        x = x * 1664525 + 1013904223;
        b = static_cast<std::byte>(x >> 24);
    }
    return bytes;
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span{text.data(), text.size()});
}

inline std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What one recv of at most 4 KiB gives.
inline std::string recv_text(io::tcp_stream& stream) {
    std::array<std::byte, 4096> buffer;
    const std::size_t n = stream.recv(buffer);
    return text_of(std::span{buffer}.first(n));
}

// Lets all others run, and the scheduler look outside at least once: after it, what was submitted
// is in the kernel's hands, and what the kernel has completed is delivered.
inline void settle() {
    for (int i = 0; i < 200; ++i)
        this_fiber::yield();
}

// The system_error that f throws; a test that gets none fails on its code.
template <typename F>
std::system_error error_of(F f) {
    try {
        f();
    } catch (const std::system_error& error) {
        return error;
    }
    return std::system_error{std::error_code{}, "nothing was thrown"};
}

// Closing it sends a reset instead of an end.
inline void reset_on_close(int fd) {
    const linger at_once{1, 0};
    if (::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) < 0)
        throw std::system_error(errno, std::generic_category(), "SO_LINGER");
}

} // namespace creel::test
