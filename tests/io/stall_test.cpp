#include "clean_run.hpp"
#include "support/becomes_true.hpp"
#include "support/child_process.hpp"
#include "support/stderr_capture.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <sys/socket.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;
using Catch::Contains;

namespace {

bool has_dump_thread() {
    for (const auto& task : std::filesystem::directory_iterator{"/proc/self/task"}) {
        std::string name;
        std::getline(std::ifstream{task.path() / "comm"}, name);
        if (name == "creel-dump")
            return true;
    }
    return false;
}

} // namespace

TEST_CASE("in debug mode a fiber that blocks the thread is reported while it does, and the end") {
    const stderr_capture captured;
    const auto shows = [&](const char* text) {
        return captured.text().find(text) != std::string::npos;
    };
    std::thread peer;
    clean_run({.debug = true}, [&](creel::nursery& root) {
        auto [mine, other] = tcp_pair();
        root.spawn({.name = "reader"}, [&, fd = mine.native_handle(), to = other.native_handle()] {
            peer = std::thread{[&, to] {
                expect(becomes_true([&] { return shows("has not switched fibers"); }));
                ::shutdown(to, SHUT_WR);
            }};
            std::byte byte{};
            expect(::recv(fd, &byte, 1, 0) == 0);
        });
        root.join();
    });
    peer.join();
    INFO(captured.text());
    CHECK(shows("reader (#"));
    CHECK(shows(" (a socket, peer 127.0.0.1:"));
    CHECK(shows("switches fibers again, after "));
}

TEST_CASE("without a threshold nothing looks for stalls, and with one debug mode is not needed") {
    io::run({.dump_signal = 0}, [] { CHECK_FALSE(has_dump_thread()); });
    io::run({.dump_signal = 0, .debug = true, .stall_threshold = -1s},
            [] { CHECK_FALSE(has_dump_thread()); });
    io::run({.dump_signal = 0, .stall_threshold = 1h},
            [] { CHECK(becomes_true(has_dump_thread)); });
    CHECK(becomes_true([] { return !has_dump_thread(); }));
}
