// creelctl as a person uses it: in a terminal, and in a pipe.
#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/json.hpp"
#include "support/unix_client.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;
using Catch::Contains;

namespace {

constexpr int many = 30;

// A run that has some fibers and a group of sleepers, until this object ends.
class watched_run {
public:
    explicit watched_run(const std::string& address)
        : thread_([this, address] {
              io::run({.inspect = address}, [this](creel::nursery& root) {
                  root.spawn({.name = "parent"}, [] {
                      creel::with_nursery({.name = "sleepers"}, [](creel::nursery& n) {
                          for (int i = 0; i < many; ++i)
                              n.spawn({.name = "sleeper"}, [] { sleep_long(); });
                      });
                  });
                  is_on_ = true;
                  while (!ends_)
                      creel::this_fiber::sleep_for(1ms);
                  root.cancel();
              });
          }) {
        while (!is_on_)
            std::this_thread::yield();
    }
    ~watched_run() {
        ends_ = true;
        thread_.join();
    }
    watched_run(const watched_run&) = delete;
    watched_run& operator=(const watched_run&) = delete;

private:
    [[gnu::noinline]] static void sleep_long() {
        creel::this_fiber::sleep_for(1h);
        asm volatile("");
    }

    std::atomic<bool> is_on_{false};
    std::atomic<bool> ends_{false};
    std::thread thread_;
};

// Listens at a socket as a program of any kind may. It answers each client with the same text and
// closes; without a text it lets the clients wait.
class stranger {
public:
    explicit stranger(const std::string& path, std::optional<std::string> says = std::nullopt)
        : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        path.copy(name.sun_path, sizeof name.sun_path - 1);
        CHECK(::bind(socket_, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
        CHECK(::listen(socket_, 16) == 0);
        if (says)
            thread_ = std::thread{[this, text = *says] { answer_with(text); }};
    }
    ~stranger() {
        ::shutdown(socket_, SHUT_RDWR);
        if (thread_.joinable())
            thread_.join();
        ::close(socket_);
    }
    stranger(const stranger&) = delete;
    stranger& operator=(const stranger&) = delete;

private:
    void answer_with(const std::string& text) const {
        for (int client = 0; (client = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
            std::array<char, 256> line{};
            static_cast<void>(::recv(client, line.data(), line.size(), 0));
            static_cast<void>(::send(client, text.data(), text.size(), MSG_NOSIGNAL));
            ::close(client);
        }
    }

    const int socket_;
    std::thread thread_{};
};

std::vector<char*> as_arguments(std::vector<std::string>& words) {
    std::vector<char*> arguments;
    for (std::string& w : words)
        arguments.push_back(w.data());
    arguments.push_back(nullptr);
    return arguments;
}

std::string read_all(int from) {
    std::string all;
    std::array<char, 4096> piece{};
    for (ssize_t got = 0; (got = ::read(from, piece.data(), piece.size())) > 0;)
        all.append(piece.data(), static_cast<std::size_t>(got));
    return all;
}

struct ended {
    int code = -1;
    std::string text{}; // of stdout and stderr
};

// creelctl with its output in a pipe.
ended creelctl(std::vector<std::string> words) {
    words.insert(words.begin(), CREELCTL);
    const std::vector<char*> arguments = as_arguments(words);
    std::array<int, 2> ends{};
    CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        ::dup2(ends[1], STDERR_FILENO);
        ::execv(arguments[0], arguments.data());
        ::_exit(127);
    }
    ::close(ends[1]);
    ended result;
    result.text = read_all(ends[0]);
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return result;
}

// creelctl in a terminal of its own.
class in_terminal {
public:
    in_terminal(std::vector<std::string> words, unsigned short rows, unsigned short columns) {
        words.insert(words.begin(), CREELCTL);
        const std::vector<char*> arguments = as_arguments(words);
        const winsize size{rows, columns, 0, 0};
        // This end keeps the terminal's settings readable when creelctl has gone.
        CHECK(::openpty(&controller_, &terminal_, nullptr, nullptr, &size) == 0);
        before_ = settings();
        child_ = ::fork();
        if (child_ == 0) {
            ::login_tty(terminal_);
            ::execv(arguments[0], arguments.data());
            ::_exit(127);
        }
    }
    ~in_terminal() {
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
        ::close(terminal_);
        ::close(controller_);
    }
    in_terminal(const in_terminal&) = delete;
    in_terminal& operator=(const in_terminal&) = delete;

    void type(const std::string& keys) const {
        static_cast<void>(::write(controller_, keys.data(), keys.size()));
    }
    void resize(unsigned short rows, unsigned short columns) const {
        const winsize size{rows, columns, 0, 0};
        ::ioctl(controller_, TIOCSWINSZ, &size);
    }
    void kill(int number) const { ::kill(child_, number); }

    // True when the text has come, anywhere in what was written since the last forget().
    bool shows(const std::string& text) {
        return becomes_true([&] {
            pollfd readable{controller_, POLLIN, 0};
            while (::poll(&readable, 1, 5) > 0 && (readable.revents & POLLIN) != 0) {
                std::array<char, 4096> piece{};
                const ssize_t got = ::read(controller_, piece.data(), piece.size());
                if (got <= 0)
                    break;
                written_.append(piece.data(), static_cast<std::size_t>(got));
            }
            return written_.find(text) != std::string::npos;
        });
    }
    void forget() { written_.clear(); }
    [[nodiscard]] const std::string& written() const { return written_; }

    // The status of its end: see waitpid(2).
    int status_at_end() {
        int status = 0;
        bool has_ended = becomes_true([&] { return ::waitpid(child_, &status, WNOHANG) != 0; });
        return has_ended ? status : -1;
    }
    [[nodiscard]] bool is_as_before() const {
        const termios now = settings();
        return now.c_lflag == before_.c_lflag && now.c_iflag == before_.c_iflag &&
               now.c_oflag == before_.c_oflag && now.c_cc[VMIN] == before_.c_cc[VMIN];
    }

private:
    [[nodiscard]] termios settings() const {
        termios now{};
        ::tcgetattr(terminal_, &now);
        return now;
    }

    int controller_ = -1;
    int terminal_ = -1;
    termios before_{};
    pid_t child_ = -1;
    std::string written_{};
};

constexpr const char* other_screen = "\033[?1049h";
constexpr const char* first_screen = "\033[?25h\033[?1049l";

} // namespace

TEST_CASE("creelctl finds a process by its number, and shows and cancels its fibers") {
    const temporary_folder folder;
    const watched_run run{"unix:" + folder.file("app.sock")};
    const std::string process = std::to_string(::getpid());
    std::string tree;
    CHECK(becomes_true([&] { // a run that is late is told as stalled
        tree = creelctl({process, "tree"}).text;
        return tree.find("sleeper (#") != std::string::npos;
    }));
    INFO(tree);
    std::smatch number;
    const bool found = std::regex_search(tree, number, std::regex{"sleeper \\(#([0-9]+),"});
    REQUIRE(found);
    std::string one;
    CHECK(becomes_true([&] {
        one = creelctl({process, "bt", number[1]}).text;
        return one.find("sleeper (#" + number[1].str() + ',') != std::string::npos;
    }));
    CHECK(one.find("parent (#") == std::string::npos);
    CHECK(is_json(creelctl({process, "tree", "--json"}).text));
    CHECK_THAT(creelctl({"unix:" + folder.file("app.sock"), "counters"}).text,
               Contains("creel_switches_total{"));
    const ended cancelled = creelctl({process, "cancel", "sleepers"});
    CHECK_THAT(cancelled.text,
               Contains("cancelled 1 nursery \"sleepers\"") || Contains("1 run has not answered"));
    CHECK(cancelled.code == 0);
    const ended none = creelctl({process, "cancel", "dreamers"});
    CHECK_THAT(none.text, Contains("creelctl: there is no nursery \"dreamers\"") ||
                              Contains("1 run has not answered"));
}

TEST_CASE("creelctl tells what is wrong, with an exit code for each") {
    const temporary_folder folder;
    const ended without_socket = creelctl({std::to_string(::getpid()), "tree"});
    CHECK(without_socket.code == 4);
    CHECK_THAT(without_socket.text, Contains("start it with io::run({.inspect = "));
    const ended no_process = creelctl({"999999999", "tree"});
    CHECK(no_process.code == 3);
    CHECK_THAT(no_process.text, Contains("there is no process 999999999"));
    CHECK(creelctl({folder.file("none.sock"), "tree"}).code == 4);
    CHECK(creelctl({}).code == 2);
    CHECK(creelctl({"1", "dance"}).code == 2);
    CHECK(creelctl({"1", "bt", "first"}).code == 2);
    CHECK(creelctl({"1", "top", "-d", "never"}).code == 2);
    const ended helped = creelctl({"--help"});
    CHECK(helped.code == 0);
    CHECK_THAT(helped.text, Contains("usage: creelctl PROCESS COMMAND"));
}

TEST_CASE("creelctl top writes lines where stdout is no terminal") {
    const temporary_folder folder;
    const std::string address = "unix:" + folder.file("app.sock");
    const watched_run run{address};
    std::string text;
    CHECK(becomes_true([&] {
        text = creelctl({address, "top", "-n", "1", "-d", "0.1"}).text;
        return text.find("WAIT FOR\n      30 ") != std::string::npos;
    }));
    INFO(text);
    CHECK_THAT(text,
               Contains(" RUN THREAD") && Contains("WAIT FOR\n      30 ") && Contains("a sleep\n"));
    CHECK(text.find('\033') == std::string::npos);
}

TEST_CASE("creelctl top fills a terminal, follows its size and restores it") {
    const temporary_folder folder;
    const std::string address = "unix:" + folder.file("app.sock");
    const watched_run run{address};
    in_terminal top{{address, "top", "-d", "0.1"}, 24, 100};
    CHECK(top.shows(other_screen));
    CHECK(top.shows("creelctl_test.cpp:"));
    CHECK_FALSE(top.is_as_before());
    top.resize(10, 20); // a line has 20 columns now
    top.forget();
    CHECK(top.shows(" RUN THREAD         \033[K"));
    top.resize(40, 200);
    top.forget();
    CHECK(top.shows("SPAWN/s"));
    top.type("q");
    CHECK(top.shows(first_screen));
    const int status = top.status_at_end();
    INFO(status);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(top.is_as_before());
}

TEST_CASE("creelctl top restores the terminal when a signal ends it, or the process goes") {
    const temporary_folder folder;
    const std::string address = "unix:" + folder.file("app.sock");
    for (const int number : {SIGTERM, SIGINT}) {
        const watched_run run{address};
        in_terminal top{{address, "top", "-d", "60"}, 24, 80};
        CHECK(top.shows("WAIT FOR"));
        if (number == SIGINT)
            top.type("\003");
        else
            top.kill(number);
        CHECK(top.shows(first_screen));
        const int status = top.status_at_end();
        CHECK(WIFSIGNALED(status));
        CHECK(WTERMSIG(status) == number);
        CHECK(top.is_as_before());
    }
    auto run = std::make_unique<watched_run>(address);
    in_terminal top{{address, "top", "-d", "0.1"}, 24, 80};
    CHECK(top.shows("WAIT FOR"));
    run.reset();
    CHECK(top.shows(first_screen));
    const int status = top.status_at_end();
    CHECK(WIFEXITED(status));
    // It finds no socket, or has just asked and gets no answer.
    CHECK((WEXITSTATUS(status) == 4 || WEXITSTATUS(status) == 6));
    CHECK(top.is_as_before());
}

TEST_CASE("bug: creelctl top scrolls by each of the keys that come together") {
    const temporary_folder folder;
    const std::string address = "unix:" + folder.file("app.sock");
    const watched_run run{address};
    in_terminal top{{address, "top", "-d", "0.1"}, 8, 100}; // with room for one of three groups
    const std::string below_columns = "WAIT FOR\033[0m\033[K\r\r\n";
    CHECK(top.shows(below_columns + "      30 "));
    top.type("j\033[Bk");
    top.forget();
    CHECK(top.shows(below_columns + "       1 "));
    top.type("k");
    top.forget();
    CHECK(top.shows(below_columns + "      30 "));
    top.type("\033[F");
    top.forget();
    CHECK(top.shows(below_columns + "       1 "));
}

TEST_CASE("bug: creelctl top ends at once while the process does not answer") {
    const temporary_folder folder;
    const stranger silent{folder.file("app.sock")};
    for (const bool by_key : {true, false}) {
        in_terminal top{{folder.file("app.sock"), "top"}, 24, 80};
        CHECK(top.shows(other_screen));
        if (by_key)
            top.type("jq");
        else
            top.kill(SIGTERM);
        CHECK(top.shows(first_screen));
        const int status = top.status_at_end();
        CHECK((by_key ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                      : WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM));
        CHECK(top.is_as_before());
    }
}

TEST_CASE("bug: creelctl top gives the terminal back while it is stopped") {
    const temporary_folder folder;
    const std::string address = "unix:" + folder.file("app.sock");
    const watched_run run{address};
    in_terminal top{{address, "top", "-d", "60"}, 24, 80};
    CHECK(top.shows("WAIT FOR"));
    // Without a shell the kernel stops no process at a Ctrl-Z: it goes on at once.
    top.type("\032");
    CHECK(top.shows(std::string{first_screen} + other_screen));
    top.type("q");
    CHECK(WIFEXITED(top.status_at_end()));
    CHECK(top.is_as_before());
}

TEST_CASE("bug: creelctl finds a process that also has sockets of its own") {
    const temporary_folder folder;
    const stranger closes_a{folder.file("a.sock"), ""};
    const stranger closes_b{folder.file("b.sock"), ""};
    const stranger talks{folder.file("c.sock"), "HTTP/1.1 400 Bad Request\r\n\r\n"};
    const watched_run run{"unix:" + folder.file("app.sock")};
    const ended told = creelctl({std::to_string(::getpid()), "counters"});
    CHECK_THAT(told.text, Contains("creel_switches_total{"));
    CHECK(creelctl({folder.file("a.sock"), "tree"}).code == 6);
}

TEST_CASE("bug: what a process answers does not command the terminal") {
    const temporary_folder folder;
    const stranger evil{folder.file("app.sock"), "run \033]0;owned\007 \302\233 end\n"};
    in_terminal tree{{folder.file("app.sock"), "tree"}, 24, 80};
    CHECK(tree.shows("run ?]0;owned? ?? end\r\n"));
    in_terminal top{{folder.file("app.sock"), "top"}, 24, 80};
    CHECK(WIFEXITED(top.status_at_end()));
}
