#include "clean_run.hpp"
#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/json.hpp"
#include "support/unix_client.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>
#include <creel/io/tcp_listener.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <functional>
#include <list>
#include <string>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;
using Catch::Contains;

namespace {

bool exists(const std::string& path) {
    struct stat found {};
    return ::lstat(path.c_str(), &found) == 0;
}

// A run on a thread of its own, in which a fiber waits in accept, until this object ends.
class served_run {
public:
    explicit served_run(const std::string& address)
        : thread_([this, address] {
              io::run({.inspect = address}, [this](creel::nursery& root) {
                  io::tcp_listener listener{io::endpoint::loopback_v4(0)};
                  root.spawn({.name = "acceptor"}, [&] {
                      creel::with_nursery({.name = "house"}, [&](creel::nursery& n) {
                          n.spawn({.name = "server"},
                                  [&] { static_cast<void>(listener.accept()); });
                      });
                      has_left_house = true;
                  });
                  is_on_ = true;
                  while (!ends_) {
                      if (blocks)
                          is_blocked = true;
                      while (blocks)
                          std::this_thread::yield();
                      creel::this_fiber::sleep_for(1ms);
                  }
                  root.cancel();
              });
          }) {
        while (!is_on_)
            std::this_thread::yield();
    }
    ~served_run() {
        blocks = false;
        ends_ = true;
        thread_.join();
    }
    served_run(const served_run&) = delete;
    served_run& operator=(const served_run&) = delete;

    std::atomic<bool> blocks{false};
    std::atomic<bool> is_blocked{false};
    std::atomic<bool> has_left_house{false};

private:
    std::atomic<bool> is_on_{false};
    std::atomic<bool> ends_{false};
    std::thread thread_;
};

// The code that io::run throws for such an address; f does not run then.
int error_for(const std::string& address) {
    bool ran = false;
    const std::system_error error =
        error_of([&] { io::run({.inspect = address}, [&] { ran = true; }); });
    CHECK(ran == (error.code().value() == 0));
    return error.code().value();
}

// A run that is late is told as stalled: on a busy machine it may be.
bool answer_has(const std::string& path, const std::string& line, const std::string& part) {
    return becomes_true([&] { return ask_unix(path, line).find(part) != std::string::npos; });
}

} // namespace

TEST_CASE("the inspect socket serves the dump and the counters of a run") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    {
        const served_run run{"unix:" + path};
        CHECK(answer_has(path, "dump", "server (#"));
        CHECK(answer_has(path, "dump frames=0", "in house waits for accept on 127.0.0.1:"));
        CHECK(is_json(ask_unix(path, "dump json fibers=0")));
        CHECK(answer_has(path, "counters", "\ncreel_ring_enters_total{run=\""));
        CHECK_THAT(ask_unix(path, "who"),
                   Contains("creel ") && Contains(" process " + std::to_string(::getpid())));
        CHECK(answer_has(path, "dump fiber=999999999", "no fiber #999999999"));
        CHECK_THAT(ask_unix(path, "dump sideways"), Contains("error: dump does not know"));
        CHECK_THAT(ask_unix(path, "nonsense"), Contains("error: there is no command"));
        CHECK_THAT(ask_unix(path, std::string(10'000, 'x')), Contains("error: a request has"));
    }
    CHECK_FALSE(exists(path));
}

TEST_CASE("the inspect socket answers Prometheus and curl") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    const served_run run{"unix:" + path};
    const std::string found = ask_unix(path, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r");
    CHECK_THAT(found, Catch::StartsWith("HTTP/1.1 200 OK\r\n") &&
                          Contains("text/plain; version=0.0.4") &&
                          Contains("\r\n\r\n# HELP creel_runs"));
    CHECK_THAT(ask_unix(path, "GET / HTTP/1.0\r\n\r"), Catch::StartsWith("HTTP/1.1 404"));
    CHECK_THAT(ask_unix(path, "POST /metrics HTTP/1.0\r\n\r"), Catch::StartsWith("HTTP/1.1 405"));
}

TEST_CASE("the inspect socket answers while a fiber blocks the thread") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    served_run run{"unix:" + path};
    run.blocks = true;
    while (!run.is_blocked)
        std::this_thread::yield();
    CHECK_THAT(ask_unix(path, "counters"),
               Contains("# TYPE creel_run_stalled gauge\ncreel_run_stalled{run=") &&
                   Contains("\"} 1\n# HELP creel_run_thread_id"));
    CHECK_THAT(ask_unix(path, "dump"), Contains("stalled: it did not answer"));
    CHECK_THAT(ask_unix(path, "cancel house"), Contains("1 run has not answered"));
    run.blocks = false;
    CHECK(becomes_true([&] { return run.has_left_house.load(); }));
}

TEST_CASE("the inspect socket cancels a nursery by its name") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    const served_run run{"unix:" + path};
    CHECK(answer_has(path, "dump frames=0", "in house waits for accept"));
    CHECK(answer_has(path, "cancel garden", "error: there is no nursery \"garden\""));
    CHECK_THAT(ask_unix(path, "cancel all"), Contains("a name that creel gives"));
    CHECK_THAT(ask_unix(path, "cancel house"),
               Contains("cancelled 1 nursery \"house\"") || Contains("1 run has not answered"));
    CHECK(becomes_true([&] { return run.has_left_house.load(); }));
}

TEST_CASE("runs with the same address share one socket, and the last one removes it") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    {
        const served_run first{"unix:" + path};
        {
            const served_run second{"unix:" + path};
            CHECK(answer_has(path, "counters", "\ncreel_runs 2\n"));
        }
        CHECK(answer_has(path, "counters", "\ncreel_runs 1\n"));
        struct stat file {};
        CHECK(::stat(path.c_str(), &file) == 0);
        CHECK((file.st_mode & 0777) == 0600);
    }
    CHECK_FALSE(exists(path));
    const served_run again{"unix:" + path};
    CHECK(answer_has(path, "counters", "\ncreel_runs 1\n"));
}

TEST_CASE("clients that send nothing, or take nothing, keep no one waiting") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    std::list<unix_client> silent;
    {
        const served_run run{"unix:" + path};
        for (int i = 0; i < 5; ++i)
            silent.emplace_back(path);
        for (int i = 0; i < 5; ++i)
            silent.emplace_back(path).send("dump all");
        for (int i = 0; i < 5; ++i)
            silent.emplace_back(path).send("counters\n");
        CHECK_THAT(ask_unix(path, "who"), Contains("creel "));
    } // nor does the end of the run wait for them
    CHECK(silent.front().receive_all().empty());
}

TEST_CASE("an address where no inspect socket can be is an error of io::run") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    CHECK(error_for("/run/app.sock") == EINVAL);
    CHECK(error_for("unix:") == EINVAL);
    CHECK(error_for("unix:@") == EINVAL);
    CHECK(error_for("unix:" + folder.file(std::string(108, 'x'))) == ENAMETOOLONG);
    CHECK(error_for("unix:" + folder.file("missing/app.sock")) == ENOENT);
    std::ofstream{folder.file("text")} << "precious";
    CHECK(error_for("unix:" + folder.file("text")) == EEXIST);
    CHECK(exists(folder.file("text")));
    CHECK(error_for("unix:" + path) == 0);
}

TEST_CASE("a socket file of a dead process is replaced, and that of a live one is an error") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    const int other = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path.copy(name.sun_path, sizeof name.sun_path - 1);
    const auto* const address = reinterpret_cast<const sockaddr*>(&name);
    CHECK(::bind(other, address, sizeof name) == 0);
    CHECK(::listen(other, 1) == 0);
    CHECK(error_for("unix:" + path) == EADDRINUSE);
    CHECK(exists(path));
    ::close(other); // as the kernel does at the end of a process
    CHECK(exists(path));
    const served_run run{"unix:" + path};
    CHECK_THAT(ask_unix(path, "who"), Contains("creel "));
}

TEST_CASE("a socket file that another has put in the place of the run's is not removed") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    {
        const served_run run{"unix:" + path};
        ::unlink(path.c_str());
        std::ofstream{path} << "another's";
    }
    CHECK(exists(path));
}

TEST_CASE("another user may not inspect, not even at a name outside of the file system") {
    const std::string name = "@creel-test-" + std::to_string(::getpid());
    const served_run run{"unix:" + name};
    CHECK_THAT(ask_unix(name, "who"), Contains("creel "));
    if (::geteuid() != 0)
        return; // only root can become another user
    std::string answer = "none";
    std::thread stranger{[&] {
        // Of this thread only, which glibc's function would not do.
        constexpr uid_t nobody = 65534;
        if (::syscall(SYS_setresuid, nobody, nobody, nobody) == 0)
            answer = ask_unix(name, "who");
    }};
    stranger.join();
    CHECK(answer.empty());
}

TEST_CASE("a forked child neither serves nor removes the inspect socket") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    const served_run run{"unix:" + path};
    const pid_t child = ::fork();
    if (child == 0) {
        int error = 0;
        try {
            io::run({.inspect = "unix:" + path}, [] {});
        } catch (const std::system_error& e) {
            error = e.code().value();
        }
        ::_exit(error == EADDRINUSE ? 0 : 1); // the parent listens there
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
    CHECK_THAT(ask_unix(path, "who"), Contains(std::to_string(::getpid())));
}

TEST_CASE("bug: the file of an inspect socket is removed from where it was made") {
    const temporary_folder folder;
    std::array<char, 4096> before{};
    CHECK(::getcwd(before.data(), before.size()) != nullptr);
    CHECK(::chdir(folder.file("").c_str()) == 0);
    {
        const served_run run{"unix:app.sock"};
        CHECK(::chdir(before.data()) == 0);
        CHECK_THAT(ask_unix(folder.file("app.sock"), "who"), Contains("creel "));
    }
    CHECK_FALSE(exists(folder.file("app.sock")));
}

TEST_CASE("bug: a dump without frames leaves the system call of a stalled thread alone") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    std::array<int, 2> ends{};
    CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0);
    int result = 0;
    std::thread stuck{[&] {
        io::run({.inspect = "unix:" + path}, [&] {
            pollfd readable{ends[0], POLLIN, 0};
            result = ::poll(&readable, 1, 60'000);
        });
    }};
    CHECK(answer_has(path, "dump frames=0", "stalled"));
    CHECK(answer_has(path, "dump json fibers=0 frames=0", "\"stalled\":true"));
    CHECK(::write(ends[1], "x", 1) == 1);
    stuck.join();
    CHECK(result == 1);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("clients may ask while runs begin and end", "[stress]") {
    const temporary_folder folder;
    const std::string path = folder.file("app.sock");
    std::atomic<bool> ends{false};
    std::thread client{[&] {
        while (!ends) {
            for (const char* line : {"counters", "dump", "cancel crowd"})
                static_cast<void>(ask_unix(path, line));
        }
    }};
    std::list<std::thread> threads;
    for (int i = 0; i < 2; ++i)
        threads.emplace_back([&] {
            for (int round = 0; round < 10; ++round)
                io::run({.inspect = "unix:" + path}, [] {
                    creel::with_nursery({.name = "crowd"}, [](creel::nursery& n) {
                        for (int child = 0; child < 50; ++child)
                            n.spawn([] { creel::this_fiber::sleep_for(2ms); });
                    });
                });
        });
    for (std::thread& t : threads)
        t.join();
    ends = true;
    client.join();
    CHECK_FALSE(exists(path));
}
