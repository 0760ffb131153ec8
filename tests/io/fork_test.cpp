// Forked children of a process that has runs.
#include "clean_run.hpp"
#include "support/child_process.hpp"
#include "support/forked.hpp"
#include "support/settle.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/readiness.hpp>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <latch>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <sys/wait.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;

namespace {

bool has_ring() {
    const auto open = open_descriptors();
    return std::any_of(open.begin(), open.end(), [](const open_descriptor& d) {
        return d.target.find("io_uring") != std::string::npos;
    });
}

void let_receive_stand(connection& c) { // of the server's, after eight short messages
    for (int i = 0; i < 10; ++i) {
        c.client->send_all(bytes_of("x"));
        expect(recv_text(*c.server) == "x");
    }
}

using call = std::pair<std::string, std::function<void(connection&)>>;

} // namespace

TEST_CASE("bug: a child that does I/O and was forked inside a run aborts, and the run goes on") {
    const auto [name, mistake] = GENERATE(
        call{"recv", [](connection& c) { static_cast<void>(recv_text(*c.client)); }},
        call{"send", [](connection& c) { c.client->send_all(bytes_of("CHILD!")); }},
        call{"accept", [](connection& c) { static_cast<void>(c.listener.accept()); }},
        call{"connect",
             [](connection& c) {
                 static_cast<void>(io::tcp_stream::connect(c.listener.local_endpoint()));
             }},
        call{"readiness", [](connection&) { io::wait_readable(0); }},
        call{"handle", [](connection& c) { static_cast<void>(c.server->native_handle()); }},
        call{"run", [](connection&) { io::run([] {}); }});
    const auto child = run_in_child([&mistake = mistake] {
        io::run([&] {
            connection c;
            let_receive_stand(c);
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { c.server->send_all(bytes_of("PARENT")); });
                n.spawn([&] { // the send is in the ring's queue, and not yet in the kernel's hands
                    expect(was_aborted(status_of_fork([&] { mistake(c); })));
                });
            });
            expect(recv_text(*c.client) == "PARENT");
            c.client->send_all(bytes_of("reply"));
            expect(recv_text(*c.server) == "reply");
        });
    });
    INFO(name << ": " << to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK_THAT(child.stderr_text,
               Catch::Contains("made by fork() inside io::run") && !Catch::Contains("EBADR"));
}

TEST_CASE("a child that is forked inside a run has none of the rings, and may close what it has") {
    const auto child = run_in_child([] {
        io::run([] {
            connection c;
            let_receive_stand(c);
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { expect(recv_text(*c.client) == "to the client"); });
                n.spawn([&] { expect(recv_text(*c.server) == "to the server"); });
                settle_and_poll();
                expect(status_of_fork([&] {
                           expect(!has_ring());
                           expect(c.listener.native_handle() > 2);
                           c.client.reset();
                           c.server->close();
                           c.listener.close();
                       }) == 0);
                c.client->send_all(bytes_of("to the server"));
                c.server->send_all(bytes_of("to the client"));
            });
            expect(clients_answered(3) == 3);
        });
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK(child.stderr_text.empty());
}

#if !defined(CREEL_TEST_TSAN) // it ends a forked child that starts a thread
TEST_CASE("a child that is forked between runs has runs, blocking calls and a ring of its own") {
    const auto child = run_in_child([] {
        static std::optional<io::tcp_stream> left; // outlives its run, and is used in the child's
        std::optional<io::tcp_stream> peer;
        const auto descriptor = [] { return io::detail::current_ring()->wake_descriptor(); };
        const int before = io::run([&] {
            connection c;
            left = std::move(c.client);
            peer = std::move(c.server);
            left->send_all(bytes_of("before"));
            return descriptor();
        });
        const int status = status_of_fork([&] {
            expect(!has_ring());
            expect(io::run([] {
                       return clients_answered(3) + creel::blocking([] { return 1; });
                   }) == 4);
            io::run([&] { expect(recv_text(*peer) == "before"); });
            std::exit(3); // NOLINT(concurrency-mt-unsafe): with a static stream and a ring
        });
        expect(WIFEXITED(status) && WEXITSTATUS(status) == 3);
        expect(io::run([&] {
                   left->send_all(bytes_of("after"));
                   return descriptor();
               }) == before);
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK(child.stderr_text.empty());
}

TEST_CASE("a child of a thread without a run may have one, and lets another thread's run alone") {
    const auto child = run_in_child([] {
        std::latch ready{1};
        std::latch done{1};
        static std::optional<io::tcp_stream> of_other;
        std::thread other{[&] {
            io::run([&] {
                auto [a, b] = stream_pair();
                of_other = std::move(a);
                of_other->send_all(bytes_of("x"));
                ready.count_down();
                done.wait();
                expect(recv_text(b) == "x");
                of_other->send_all(bytes_of("y"));
                expect(recv_text(b) == "y");
                of_other.reset();
            });
        }};
        ready.wait();
        const int status = status_of_fork([] {
            expect(io::run([] { return clients_answered(3); }) == 3);
            of_other.reset(); // the child's copy of it
        });
        done.count_down();
        other.join();
        expect(status == 0);
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK(child.stderr_text.empty());
}
#endif
