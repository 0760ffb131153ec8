// Connecting to Unix servers whose backlog is full: other fibers go on, and no thread waits.
#include "clean_run.hpp"
#include "raw_socket.hpp"
#include "support/becomes_true.hpp"
#include "support/settle.hpp"

#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/un.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;

namespace {

// Accepts only when the test asks for it.
class slow_server {
public:
    slow_server() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path + 1, name_.data() + 1, name_.size() - 1);
        const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
        const auto* any = reinterpret_cast<const sockaddr*>(&address);
        // A backlog of 0 has room for one connection.
        if (::bind(listener_.get(), any, bytes) < 0 || ::listen(listener_.get(), 0) < 0 ||
            ::connect(filler_.get(), any, bytes) < 0)
            throw std::system_error(errno, std::generic_category(), "a full Unix listener");
    }

    [[nodiscard]] io::endpoint address() const { return io::endpoint::unix_path(name_); }
    void accept_one() {
        accepted_.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }

private:
    static raw_socket local_socket() {
        return raw_socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    }
    static std::string next_name() {
        static int count = 0;
        return "@creel_connect_test_" + std::to_string(::getpid()) + '_' + std::to_string(++count);
    }

    std::string name_ = next_name();
    raw_socket listener_ = local_socket();
    raw_socket filler_ = local_socket();
    std::vector<raw_socket> accepted_{};
};

std::ptrdiff_t threads_of_process() {
    const std::filesystem::directory_iterator all{"/proc/self/task"};
    return std::distance(begin(all), end(all));
}

std::uint64_t submitted() {
    return io::statistics().operations_submitted;
}

} // namespace

TEST_CASE("connects to a full Unix server cost no thread, no operation, and hold up no other") {
    clean_run([] {
        slow_server stuck;
        io::tcp_listener well{
            io::endpoint::unix_path("@creel_connect_test_well_" + std::to_string(::getpid()))};
        const std::ptrdiff_t threads = threads_of_process();
        const std::uint64_t before = submitted();
        int ended = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 200; ++i)
                n.spawn({.name = "stuck"}, [&] {
                    try {
                        static_cast<void>(io::tcp_stream::connect(stuck.address()));
                    } catch (const creel::cancelled&) {
                        ++ended;
                        throw;
                    }
                });
            settle_and_poll();
            CHECK_THAT(creel::list_fibers(), Catch::Contains("waits for connect to unix:@creel_") &&
                                                 Catch::Contains(", whose backlog is full"));
            static_cast<void>(io::tcp_stream::connect(well.local_endpoint()));
            CHECK(threads_of_process() == threads);
            CHECK(submitted() == before);
            n.cancel();
        });
        CHECK(ended == 200);
    });
}

TEST_CASE("connects to one full Unix server are made in the order they came, past cancelled ones") {
    clean_run([] {
        slow_server server;
        std::vector<int> order;
        std::vector<creel::cancel_scope> given_up(6);
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 6; ++i)
                n.spawn([&, i] {
                    given_up[static_cast<std::size_t>(i)].run([&] {
                        auto stream = io::tcp_stream::connect(server.address());
                        order.push_back(i);
                        stream.send_all(bytes_of("x"));
                    });
                });
            settle_and_poll();
            given_up[0].cancel(); // the first fiber in line, and one behind it
            given_up[3].cancel();
            for (std::size_t made = 1; made <= 4; ++made) {
                CHECK(order.size() == made - 1);
                server.accept_one();
                CHECK(becomes_true([&] { return order.size() == made; }));
            }
        });
        CHECK(order == std::vector{1, 2, 4, 5});
    });
}

TEST_CASE("a Unix server that ends while connects wait for it refuses them all") {
    clean_run([] {
        std::vector<std::error_code> errors;
        creel::with_nursery([&](creel::nursery& n) {
            auto server = std::make_unique<slow_server>();
            for (int i = 0; i < 3; ++i)
                n.spawn([&, to = server->address()] {
                    errors.push_back(
                        error_of([&] { static_cast<void>(io::tcp_stream::connect(to)); }).code());
                });
            settle_and_poll();
            CHECK(errors.empty());
            server.reset();
        });
        CHECK(errors.size() == 3);
        CHECK(std::all_of(errors.begin(), errors.end(),
                          [](std::error_code e) { return e == std::errc::connection_refused; }));
    });
}

// On a nonblocking descriptor io_uring answers EAGAIN instead of waiting.
TEST_CASE("a stream that is connected to a Unix server waits for what comes") {
    clean_run([] {
        io::tcp_listener listener{
            io::endpoint::unix_path("@creel_connect_test_" + std::to_string(::getpid()))};
        auto client = io::tcp_stream::connect(listener.local_endpoint());
        auto server = listener.accept();
        std::string received;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { received = recv_text(client); });
            settle_and_poll();
            server.send_all(bytes_of("late"));
        });
        CHECK(received == "late");
    });
}

TEST_CASE("an error of a Unix stream whose peer has no name says whose peer that is") {
    clean_run([] {
        const auto send_error = [](io::tcp_stream& to, io::tcp_stream peer) {
            peer.close();
            return std::string{error_of([&] { to.send_all(bytes_of("x")); }).what()};
        };
        const std::string name = "unix:@creel_connect_test_" + std::to_string(::getpid());
        io::tcp_listener listener{io::endpoint::parse(name)};
        auto client = io::tcp_stream::connect(listener.local_endpoint());
        auto server = listener.accept();
        CHECK_THAT(send_error(server, std::move(client)),
                   Catch::StartsWith("send to a client of " + name + ": "));
        auto pair = stream_pair();
        CHECK_THAT(send_error(pair.first, std::move(pair.second)),
                   Catch::StartsWith("send to an unnamed Unix socket (peer of descriptor " +
                                     std::to_string(pair.first.native_handle()) + "): "));
    });
}
