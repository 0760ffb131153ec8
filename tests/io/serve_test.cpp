#include <creel/io/serve.hpp>

#include "clean_run.hpp"
#include "support/becomes_true.hpp"
#include "support/malloc_count.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <sys/socket.h>

namespace io = creel::io;
using namespace creel::test;

namespace {

// A listener that serves `handler` until the test closes it.
struct served {
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};

    [[nodiscard]] io::tcp_stream client() const {
        return io::tcp_stream::connect(listener.local_endpoint());
    }
};

// Sends the text and returns the answer.
std::string exchange(io::tcp_stream& client, std::string_view text) {
    client.send_all(bytes_of(text));
    return recv_text(client);
}

// The errors that on_error got: the fiber and the text of each.
struct told {
    std::vector<creel::task_info> who{};
    std::vector<std::string> what{};

    [[nodiscard]] creel::error_policy policy() {
        return creel::report([this](const std::exception_ptr& error, const creel::task_info& info) {
            try {
                std::rethrow_exception(error);
            } catch (const std::exception& e) {
                what.emplace_back(e.what());
            }
            who.push_back(info);
        });
    }
};

void answer(io::tcp_stream peer) {
    echo(std::move(peer));
}

bool is_waiting_for(const std::string& text) {
    return creel::list_fibers().find("waits for " + text) != std::string::npos;
}

} // namespace

TEST_CASE("serve runs a handler of the stream, or of a reference to it, in a fiber for each") {
    clean_run([] {
        served a;
        served b;
        std::vector<std::string> names;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { io::serve(a.listener, &answer); });
            n.spawn([&] {
                io::serve({.name = "greeter"}, b.listener, [&](io::tcp_stream& peer) {
                    names.emplace_back(creel::this_fiber::name());
                    peer.send_all(bytes_of("hello"));
                });
            });
            auto first = a.client();
            auto second = a.client();
            CHECK(exchange(second, "two") == "two");
            CHECK(exchange(first, "one") == "one");
            auto greeted = b.client();
            CHECK(recv_text(greeted) == "hello");
            CHECK(recv_text(greeted).empty()); // closed after the handler
            a.listener.close();
            b.listener.close();
        });
        CHECK(names == std::vector<std::string>{"greeter"});
    });
}

TEST_CASE("what a handler throws is reported with its origin, and ends its connection only") {
    clean_run([] {
        served s;
        told errors;
        const auto where = std::source_location::current();
        creel::with_nursery([&](creel::nursery& n) {
            const auto handle = [](io::tcp_stream& peer) {
                if (recv_text(peer) == "fail")
                    throw std::runtime_error{"as asked"};
                peer.send_all(bytes_of("well"));
            };
            n.spawn([&] { io::serve({.on_error = errors.policy()}, s.listener, handle, where); });
            auto failing = s.client();
            auto other = s.client();
            CHECK(exchange(failing, "fail").empty());
            CHECK(exchange(other, "x") == "well");
            s.listener.close();
        });
        CHECK(errors.what == std::vector<std::string>{"as asked"});
        REQUIRE(errors.who.size() == 1);
        CHECK(errors.who.front().name == "connection");
        CHECK(errors.who.front().spawned_at.line() == where.line());
    });
}

TEST_CASE("at max_connections serve leaves the others in the backlog until one ends") {
    clean_run([] {
        served s;
        int open = 0;
        int most = 0;
        int answered = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                io::serve({.max_connections = 2}, s.listener, [&](io::tcp_stream& peer) {
                    most = std::max(most, ++open);
                    peer.send_all(bytes_of("here"));
                    CHECK(recv_text(peer).empty());
                    --open;
                });
            });
            std::vector<io::tcp_stream> clients;
            for (int i = 0; i < 6; ++i)
                clients.push_back(s.client());
            CHECK(becomes_true([&] { return open == 2; }));
            CHECK(becomes_true([&] {
                return is_waiting_for("one of 2 connections of " +
                                      s.listener.local_endpoint().to_string() + " to end");
            }));
            for (io::tcp_stream& client : clients) {
                answered += recv_text(client) == "here" ? 1 : 0;
                client.close();
            }
            s.listener.close();
        });
        CHECK(answered == 6);
        CHECK(most == 2);
    });
}

TEST_CASE("a listener that is closed ends serve, in accept or at its limit, after its handlers") {
    const bool at_its_limit = GENERATE(false, true);
    clean_run([&] {
        served s;
        bool ended = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::size_t limit = at_its_limit ? 1 : 5;
                io::serve({.max_connections = limit}, s.listener, &answer);
                ended = true;
            });
            auto client = s.client();
            CHECK(exchange(client, "before") == "before");
            s.listener.close();
            settle_and_poll();
            CHECK_FALSE(ended);
            CHECK(exchange(client, "after") == "after");
            client.close();
        });
        CHECK(ended);
    });
}

TEST_CASE("a cancel from outside ends the handlers, and serve throws it") {
    clean_run([] {
        served s;
        bool threw = false;
        bool cut = false;
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                CHECK_FALSE(scope.run([&] {
                    try {
                        io::serve(s.listener, [&](io::tcp_stream& peer) {
                            try {
                                echo(std::move(peer));
                            } catch (const creel::cancelled&) {
                                cut = true;
                                throw;
                            }
                        });
                    } catch (const creel::cancelled&) {
                        threw = true;
                        throw;
                    }
                }));
            });
            auto client = s.client();
            CHECK(exchange(client, "x") == "x");
            scope.cancel();
            CHECK(recv_text(client).empty());
        });
        CHECK(threw);
        CHECK(cut);
        CHECK(s.listener.is_open());
    });
}

TEST_CASE("what cannot be accepted from is the caller's error, and cancels the handlers") {
    clean_run([] {
        served s;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const auto error = error_of([&] { io::serve(s.listener, &answer); });
                CHECK(error.code() == std::errc::invalid_argument);
            });
            auto client = s.client();
            CHECK(exchange(client, "x") == "x");
            ::shutdown(s.listener.native_handle(), SHUT_RDWR);
            CHECK(recv_text(client).empty());
        });
        s.listener.close();
        CHECK(error_of([&] { io::serve(s.listener, &answer); }).code() ==
              std::errc::bad_file_descriptor);
        served other;
        CHECK_THROWS_AS(
            io::serve({.stack_bytes = creel::most_stack_bytes + 1}, other.listener, &answer),
            std::invalid_argument);
        CHECK_THROWS_AS(io::serve({.on_error = creel::collect()}, other.listener, &answer),
                        std::invalid_argument);
    });
}

TEST_CASE("out of descriptors serve pauses, tells it once, and serves those who waited") {
    clean_run([] {
        // UBSan needs descriptors when it first checks a type, so all calls are made once before.
        const auto serve_all = [](served& s, std::vector<io::tcp_stream>& clients, told& errors,
                                  int& answered, bool short_of_descriptors) {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    io::serve({.max_connections = 100, .on_error = errors.policy()}, s.listener,
                              &answer);
                });
                if (short_of_descriptors) {
                    CHECK(becomes_true([&] { return !errors.what.empty(); }));
                    const auto before = io::statistics().completions;
                    for (int i = 0; i < 1'000; ++i)
                        settle_and_poll();
                    CHECK(io::statistics().completions - before < 100); // it does not spin
                    CHECK(errors.what.size() == 1);
                }
                for (io::tcp_stream& client : clients) {
                    answered += exchange(client, "x") == "x" ? 1 : 0;
                    client.close();
                }
                s.listener.close();
            });
        };
        for (const bool short_of_descriptors : {false, true}) {
            served s;
            told errors;
            int answered = 0;
            std::vector<io::tcp_stream> clients;
            for (int i = 0; i < 12; ++i)
                clients.push_back(s.client());
            rlimit before{};
            REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
            rlimit few = before;
            if (short_of_descriptors)
                few.rlim_cur = static_cast<rlim_t>(clients.back().native_handle()) + 5;
            ::setrlimit(RLIMIT_NOFILE, &few);
            serve_all(s, clients, errors, answered, short_of_descriptors);
            ::setrlimit(RLIMIT_NOFILE, &before);
            CHECK(answered == 12);
            if (short_of_descriptors) {
                CHECK_THAT(errors.what.front(), Catch::Contains("Too many open files"));
                CHECK(errors.who.front().name == "accept");
            } else {
                CHECK(errors.what.empty());
            }
        }
    });
}

TEST_CASE("without memory serve pauses, and goes on when there is some") {
    if (!counts_malloc)
        return;
    clean_run([] {
        served s;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { io::serve({.max_connections = 1}, s.listener, &answer); });
            auto first = s.client();
            CHECK(exchange(first, "x") == "x");
            auto lost = s.client(); // after the accept there is no memory for the record
            {
                const no_memory none;
                first.shutdown_send();
                for (int i = 0; i < 10; ++i)
                    settle_and_poll();
            }
            CHECK(recv_text(lost).empty());
            auto client = s.client();
            CHECK(exchange(client, "x") == "x");
            s.listener.close();
        });
    });
}
