// The terminal while `top` has it: without echo and line mode, on its other screen. However
// creelctl ends, and while it is stopped (Ctrl-Z), the terminal is as it was before.
#pragma once

#include <chrono>
#include <csignal>
#include <cstddef>
#include <string>
#include <vector>

#include <termios.h>

namespace creelctl {

enum class key { none, quit, up, down, page_up, page_down, first, last, resized };

class terminal {
public:
    using time_point = std::chrono::steady_clock::time_point;

    // Takes over the terminal at stdin and stdout, and the signals that end or stop creelctl or
    // tell of a new size; those that it has inherited as ignored stay so. Throws: failure if there
    // is no terminal.
    terminal();
    ~terminal();
    terminal(const terminal&) = delete;
    terminal& operator=(const terminal&) = delete;

    // Draws the lines, each cut to the width; the rest of the screen becomes empty.
    void draw(const std::vector<std::string>& lines);
    // The next key, or none when so much time has passed. A signal that ends creelctl is `quit`.
    [[nodiscard]] key wait_key(time_point until);

    // Waits for a descriptor (negative: for none) as poll(2) does; keys and signals are noted
    // meanwhile. True: it is ready. Threads: one. Throws: told_to_end, when a key or a signal asks
    // for the end.
    struct told_to_end {};
    [[nodiscard]] bool wait_for(int descriptor, short events, time_point until);

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
    // The signal that asked for the end; 0: none.
    [[nodiscard]] static int ended_by() noexcept;

private:
    void take_over();
    void give_back() noexcept;
    void stop();
    void learn_size() noexcept;
    // One wait: until a key, a signal, the descriptor or the end. True: the descriptor is ready.
    bool wait_once(int descriptor, short events, time_point until);
    [[nodiscard]] bool is_told_to_end() const noexcept;

    termios before_{};
    sigset_t mask_before_{};
    std::size_t rows_ = 24;
    std::size_t columns_ = 80;
    bool is_gone_ = false;      // the terminal
    bool has_new_size_ = false; // which no key has told of
    std::string typed_{};       // and not yet taken
};

// Takes the first key off what was typed, and what means nothing before it. None: there is none, or
// only the beginning of one.
[[nodiscard]] key take_key(std::string& typed);

// The first bytes of a text of UTF-8 that take so many columns, with one column for a character.
[[nodiscard]] std::string cut_to(const std::string& line, std::size_t columns);

} // namespace creelctl
