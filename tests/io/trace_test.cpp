#include <creel/fibers/trace.hpp>

#include "clean_run.hpp"
#include "support/trace_reader.hpp"

#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <string>
#include <system_error>

namespace io = creel::io;
using namespace creel::test;
using Catch::Contains;

TEST_CASE("a trace of a run shows what its sockets waited for, and what the kernel completed") {
    const temporary_file file;
    clean_run({.trace = file.path()}, [] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "server"}, [&] { echo(listener.accept()); });
            creel::this_fiber::yield();
            auto client = io::tcp_stream::connect(listener.local_endpoint());
            client.send_all(bytes_of("hello"));
            CHECK(recv_text(client) == "hello");
        });
    });
    const auto events = events_of(file.text());
    CHECK_THAT(story_of(events), Contains("server: accept on 127.0.0.1:") &&
                                     Contains("main: connect to 127.0.0.1:") &&
                                     Contains("server: recv from 127.0.0.1:") &&
                                     Contains("main: recv from 127.0.0.1:"));
    CHECK(std::any_of(events.begin(), events.end(), [](const traced_event& e) {
        return e.track == "thread" && e.category == "poll" &&
               e.line.find("\"completions\":0") == std::string::npos &&
               e.line.find("\"io_uring_enter\":0") == std::string::npos;
    }));
}

TEST_CASE("io::run throws at its beginning if there can be no trace") {
    bool ran = false;
    CHECK_THROWS_WITH(io::run({.trace = "/nowhere/at/all.json"}, [&] { ran = true; }),
                      Contains("cannot write a trace to /nowhere/at/all.json"));
    CHECK_FALSE(ran);
    clean_run([] {}); // the thread is as it was
}
