// io::run for tests: fails if a run leaves anything behind, and if it hangs. Also the pairs of
// streams, patterns of bytes and errors that the tests of io/ make and compare.
#pragma once

#include "support/check.hpp"
#include "support/open_descriptors.hpp"
#include "support/sanitizers.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/io/run.hpp>
#include <creel/io/tcp_listener.hpp>
#include <creel/io/tcp_stream.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace creel::test {

// TSan takes part in at most 8,128 threads and fibers.
inline constexpr int many_fibers = under_tsan ? 500 : 10'000;

// The open descriptors of the process after this thread has closed the ring that it keeps.
[[nodiscard]] std::vector<open_descriptor> descriptors_at_rest();

// Checks the counters of the thread's last run that must be zero, and those descriptors. In the
// test "in debug mode a fiber that resumed ..." of run_test.cpp the first check fails.
void check_nothing_left(const std::vector<open_descriptor>& before);

// Runs f, which may take the root nursery. After 50 s it throws timed_out, and so the test fails.
void clean_run(io::run_options options, test_body<nursery> f);
void clean_run(test_body<nursery> f);

// The abilities of the kernel, asked inside a run: see older_kernel.cpp.
[[nodiscard]] bool receives_stand();
[[nodiscard]] bool files_are_registered();

// Two connected streams; the same over TCP.
[[nodiscard]] std::pair<io::tcp_stream, io::tcp_stream> stream_pair();
[[nodiscard]] std::pair<io::tcp_stream, io::tcp_stream> tcp_pair();

// A listener on a free port of the loopback, and a connection through it.
struct connection {
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};
    std::optional<io::tcp_stream> client{};
    std::optional<io::tcp_stream> server{};

    connection();
};

// Sends back what it receives, until the peer's end.
void echo(io::tcp_stream peer);

// Connects so many clients at once to one listener, whose fibers send back what they receive.
// Returns how many clients got their own bytes back.
[[nodiscard]] int clients_answered(int clients);

// Bytes in which a lost, doubled or misplaced piece is visible.
[[nodiscard]] std::vector<std::byte> pattern(std::size_t size_bytes);

[[nodiscard]] std::span<const std::byte> bytes_of(std::string_view text);
[[nodiscard]] std::string text_of(std::span<const std::byte> bytes);

// The text that one recv of at most 4 KiB gives.
[[nodiscard]] std::string recv_text(io::tcp_stream& stream);

// The system_error that f throws; if f throws none, one with code 0.
[[nodiscard]] std::system_error error_of(test_body<> f);

// Closing it sends a reset instead of an end.
void reset_on_close(int fd);

} // namespace creel::test
