#include "terminal.hpp"

#include "failure.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <string_view>

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace creelctl {

namespace {

// Set by handlers of signals; a signal also ends the wait in ppoll().
volatile std::sig_atomic_t end_signal = 0;
volatile std::sig_atomic_t has_new_size = 0;

constexpr std::array ending{SIGINT, SIGTERM, SIGHUP, SIGQUIT};

void note_signal(int number) {
    if (number == SIGWINCH)
        has_new_size = 1;
    else
        end_signal = number;
}

void write_all(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written < 0 && errno != EINTR)
            return;
        text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
    }
}

sigset_t watched_signals() noexcept {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    for (const int number : ending)
        sigaddset(&set, number);
    return set;
}

} // namespace

terminal::terminal() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0)
        throw failure{wrong_usage, "top needs a terminal; top -b writes to anything"};
    // They are blocked, but for the wait: so none is lost between a look and the wait.
    const sigset_t watched = watched_signals();
    ::sigprocmask(SIG_BLOCK, &watched, nullptr);
    struct sigaction noting {};
    noting.sa_handler = &note_signal;
    ::sigaction(SIGWINCH, &noting, nullptr);
    for (const int number : ending)
        ::sigaction(number, &noting, nullptr);
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    write_all("\033[?1049h\033[?25l\033[?7l"); // the other screen, no cursor, no wrap
    learn_size();
}

terminal::~terminal() {
    write_all("\033[?7h\033[?25h\033[?1049l");
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
}

int terminal::ended_by() noexcept {
    return end_signal;
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

key terminal::wait_key(std::chrono::steady_clock::time_point until) {
    using std::chrono::nanoseconds;
    const nanoseconds left =
        std::max(nanoseconds{until - std::chrono::steady_clock::now()}, nanoseconds{0});
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{seconds.count(), (left - seconds).count()};
    pollfd input{STDIN_FILENO, POLLIN, 0};
    sigset_t none;
    sigemptyset(&none);
    const int ready = ::ppoll(&input, 1, &timeout, &none);
    if (end_signal != 0)
        return key::quit;
    if (has_new_size != 0) {
        has_new_size = 0;
        learn_size();
        return key::resized;
    }
    if (ready <= 0)
        return key::none;
    std::array<char, 64> bytes{};
    const ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (got <= 0)
        return key::quit; // the terminal is gone
    return key_of(std::string{bytes.data(), static_cast<std::size_t>(got)});
}

key terminal::key_of(const std::string& bytes) const noexcept {
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
    for (const meaning& m : meanings)
        if (bytes == m.bytes)
            return m.is;
    // Keys that came together: the last one counts, and a q among them ends.
    if (bytes.find('q') != bytes.npos)
        return key::quit;
    return bytes.size() > 1 && bytes.front() != '\033' ? key_of(bytes.substr(bytes.size() - 1))
                                                       : key::none;
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
