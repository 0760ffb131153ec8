#include "terminal.hpp"

#include "failure.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <initializer_list>
#include <string_view>
#include <utility>

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace creelctl {

namespace {

using steady = std::chrono::steady_clock;

// Set by the handler of the signals, which are blocked, but for the waits in ppoll(): so none is
// lost between a look and a wait.
volatile std::sig_atomic_t end_signal = 0;
volatile std::sig_atomic_t stop_signal = 0;
volatile std::sig_atomic_t was_continued = 0;
volatile std::sig_atomic_t was_resized = 0;

constexpr std::array caught{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
std::array<struct sigaction, caught.size()> dispositions_before{};

void note_signal(int number) {
    if (number == SIGWINCH)
        was_resized = 1;
    else if (number == SIGCONT)
        was_continued = 1;
    else if (number == SIGTSTP)
        stop_signal = 1;
    else
        end_signal = number;
}

void set_disposition(int number, void (*handler)(int)) noexcept {
    struct sigaction action {};
    action.sa_handler = handler;
    ::sigaction(number, &action, nullptr);
}

sigset_t set_of(std::initializer_list<int> numbers) noexcept {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : numbers)
        sigaddset(&set, number);
    return set;
}

sigset_t catch_signals() noexcept {
    sigset_t watched = set_of({});
    for (const int number : caught)
        sigaddset(&watched, number);
    sigset_t mask_before;
    ::sigprocmask(SIG_BLOCK, &watched, &mask_before);
    for (std::size_t i = 0; i < caught.size(); ++i) {
        ::sigaction(caught[i], nullptr, &dispositions_before[i]);
        if (dispositions_before[i].sa_handler != SIG_IGN || caught[i] == SIGWINCH)
            set_disposition(caught[i], &note_signal);
    }
    return mask_before;
}

void let_go_of_signals(const sigset_t& mask_before) noexcept {
    for (std::size_t i = 0; i < caught.size(); ++i)
        ::sigaction(caught[i], &dispositions_before[i], nullptr);
    ::sigprocmask(SIG_SETMASK, &mask_before, nullptr);
}

// A terminal that takes nothing for a second is given up.
void write_all(std::string_view text) noexcept {
    constexpr int milliseconds = 1000;
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written >= 0) {
            text.remove_prefix(static_cast<std::size_t>(written));
        } else if (errno == EAGAIN) { // the descriptor may be shared with one that does not block
            pollfd room{STDOUT_FILENO, POLLOUT, 0};
            if (::poll(&room, 1, milliseconds) <= 0)
                return;
        } else if (errno != EINTR) {
            return;
        }
    }
}

} // namespace

terminal::terminal() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0)
        throw failure{wrong_usage, "top needs a terminal; top -b writes to anything"};
    mask_before_ = catch_signals();
    take_over();
}

terminal::~terminal() {
    give_back();
    let_go_of_signals(mask_before_);
}

void terminal::take_over() {
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    write_all("\033[?1049h\033[?25l\033[?7l"); // the other screen, no cursor, no wrap
    learn_size();
}

void terminal::give_back() noexcept {
    write_all("\033[?7h\033[?25h\033[?1049l");
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
}

// As if SIGTSTP had not been caught: creelctl stops, and the shell has the terminal.
void terminal::stop() {
    give_back();
    set_disposition(SIGTSTP, SIG_DFL);
    ::raise(SIGTSTP);
    const sigset_t stopping = set_of({SIGTSTP});
    ::sigprocmask(SIG_UNBLOCK, &stopping, nullptr); // here it stops, until SIGCONT
    ::sigprocmask(SIG_BLOCK, &stopping, nullptr);
    set_disposition(SIGTSTP, &note_signal);
    was_continued = 1;
}

int terminal::ended_by() noexcept {
    return end_signal;
}

bool terminal::is_told_to_end() const noexcept {
    return end_signal != 0 || is_gone_;
}

void terminal::learn_size() noexcept {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row != 0 && size.ws_col != 0) {
        rows_ = size.ws_row;
        columns_ = size.ws_col;
    }
}

void terminal::draw(const std::vector<std::string>& lines) {
    std::string screen{"\033[H"};
    for (std::size_t row = 0; row < rows_; ++row) {
        if (row < lines.size())
            screen += cut_to(lines[row], columns_);
        screen += row + 1 < rows_ ? "\033[K\r\n" : "\033[K";
    }
    write_all(screen);
}

bool terminal::wait_once(int descriptor, short events, time_point until) {
    using std::chrono::nanoseconds;
    const nanoseconds left = std::max(nanoseconds{until - steady::now()}, nanoseconds{0});
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{seconds.count(), (left - seconds).count()};
    std::array<pollfd, 2> awaited{{{STDIN_FILENO, POLLIN, 0}, {descriptor, events, 0}}};
    const int ready = ::ppoll(awaited.data(), awaited.size(), &timeout, &mask_before_);
    if (stop_signal != 0) {
        stop_signal = 0;
        stop();
    }
    if (was_continued != 0) { // by stop(), or by a SIGSTOP that no process can catch
        was_continued = 0;
        take_over();
        has_new_size_ = true;
    }
    if (was_resized != 0) {
        was_resized = 0;
        learn_size();
        has_new_size_ = true;
    }
    if (ready > 0 && awaited[0].revents != 0) {
        std::array<char, 256> bytes{};
        const ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
        if (got > 0)
            typed_.append(bytes.data(), static_cast<std::size_t>(got));
        else if (got == 0 || (errno != EAGAIN && errno != EINTR))
            is_gone_ = true;
    }
    return ready > 0 && awaited[1].revents != 0;
}

key terminal::wait_key(time_point until) {
    for (;;) {
        if (is_told_to_end())
            return key::quit;
        if (std::exchange(has_new_size_, false))
            return key::resized;
        if (const key next = take_key(typed_); next != key::none)
            return next;
        if (steady::now() >= until)
            return key::none;
        wait_once(-1, 0, until);
    }
}

bool terminal::wait_for(int descriptor, short events, time_point until) {
    for (;;) {
        const bool is_ready = wait_once(descriptor, events, until);
        // The other keys wait for wait_key(), which gives them one by one.
        std::string typed = typed_;
        key next = key::none;
        while ((next = take_key(typed)) != key::none && next != key::quit) {
        }
        if (is_told_to_end() || next == key::quit)
            throw told_to_end{};
        if (is_ready)
            return true;
        if (steady::now() >= until)
            return false;
    }
}

key take_key(std::string& typed) {
    struct meaning {
        std::string_view bytes;
        key is;
    };
    static constexpr std::array meanings{meaning{"q", key::quit},
                                         meaning{"\003", key::quit},
                                         meaning{"k", key::up},
                                         meaning{"\033[A", key::up},
                                         meaning{"\033OA", key::up},
                                         meaning{"j", key::down},
                                         meaning{"\033[B", key::down},
                                         meaning{"\033OB", key::down},
                                         meaning{"\033[5~", key::page_up},
                                         meaning{"\033[6~", key::page_down},
                                         meaning{" ", key::page_down},
                                         meaning{"g", key::first},
                                         meaning{"\033[H", key::first},
                                         meaning{"G", key::last},
                                         meaning{"\033[F", key::last}};
    while (!typed.empty()) {
        std::size_t bytes = 1;
        if (typed.front() == '\033') {
            if (typed.size() == 1)
                return key::none;
            if (typed[1] == 'O') {
                bytes = 3;
            } else if (typed[1] == '[') { // it ends with a letter or a ~
                bytes = 2;
                while (bytes < typed.size() && (typed[bytes] < '@' || typed[bytes] > '~'))
                    ++bytes;
                ++bytes;
            }
            if (typed.size() < bytes)
                return key::none;
        }
        const std::string one = typed.substr(0, bytes);
        typed.erase(0, bytes);
        for (const meaning& m : meanings)
            if (one == m.bytes)
                return m.is;
    }
    return key::none;
}

std::string cut_to(const std::string& line, std::size_t columns) {
    std::size_t seen = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const auto byte = static_cast<unsigned char>(line[i]);
        const bool continues = (byte & 0xC0) == 0x80; // a further byte of a character
        if (!continues && seen++ == columns)
            return line.substr(0, i);
    }
    return line;
}

} // namespace creelctl
