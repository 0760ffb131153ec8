#include "top.hpp"

#include "failure.hpp"
#include "screen.hpp"
#include "terminal.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace creelctl {

namespace {

using steady = std::chrono::steady_clock;

int top_plain(const std::string& address, const top_options& options) {
    look before = look::take(address);
    for (unsigned i = 0; options.times == 0 || i < options.times; ++i) {
        std::this_thread::sleep_for(options.delay); // so that also the first look has rates
        look now = look::take(address);
        const screen all = show(address, before, now);
        for (const std::vector<std::string>* part : {&all.head, &all.groups})
            for (const std::string& line : *part)
                std::puts(line.c_str());
        std::puts("");
        if (std::fflush(stdout) != 0) // its reader is gone
            break;
        before = std::move(now);
    }
    return done;
}

// The part of the groups that fits below the head, from `first` on.
std::vector<std::string> visible(const screen& all, std::size_t rows, std::size_t& first) {
    std::vector<std::string> lines = all.head;
    lines.push_back("\033[7m" + all.groups.front() + "\033[0m");
    const std::size_t room = rows > lines.size() ? rows - lines.size() : 0;
    const std::size_t groups = all.groups.size() - 1;
    first = std::min(first, groups > room ? groups - room : 0);
    for (std::size_t i = first; i < groups && i < first + room; ++i)
        lines.push_back(all.groups[i + 1]);
    return lines;
}

std::size_t scrolled(std::size_t first, key pressed, std::size_t page) {
    switch (pressed) {
    case key::up:
        return first - std::min<std::size_t>(first, 1);
    case key::down:
        return first + 1;
    case key::page_up:
        return first - std::min(first, page);
    case key::page_down:
        return first + page;
    case key::first:
        return 0;
    case key::last:
        return static_cast<std::size_t>(-1) / 2;
    default:
        return first;
    }
}

// Until a key or a signal ends it.
void top_on_terminal(const std::string& address, const top_options& options) {
    terminal on;
    ask_options asking;
    asking.wait = [&on](int descriptor, short events, steady::time_point until) {
        return on.wait_for(descriptor, events, until);
    };
    look before = look::take(address, asking);
    screen all = show(address, before, before);
    std::size_t first = 0;
    steady::time_point next = steady::now() + options.delay;
    for (unsigned looks = 1;;) {
        on.draw(visible(all, on.rows(), first));
        const key pressed = on.wait_key(next);
        if (pressed == key::quit)
            return;
        first = scrolled(first, pressed, std::max<std::size_t>(on.rows() / 2, 1));
        if (steady::now() < next)
            continue;
        if (looks++ == options.times)
            return;
        look now = look::take(address, asking);
        all = show(address, before, now);
        before = std::move(now);
        next = steady::now() + options.delay;
    }
}

} // namespace

int top(const std::string& address, const top_options& options) {
    if (options.is_plain)
        return top_plain(address, options);
    try {
        top_on_terminal(address, options);
    } catch (const terminal::told_to_end&) { // while it waited for the process
    }
    const int number = terminal::ended_by();
    // Ends as if the signal had not been caught, so that a shell sees it.
    if (number != 0) {
        ::signal(number, SIG_DFL);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, number);
        ::raise(number);
        ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
    }
    return done;
}

} // namespace creelctl
