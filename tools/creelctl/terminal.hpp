// The terminal while `top` has it: without echo and line mode, on its other screen. However
// creelctl ends, the terminal is as it was before.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <termios.h>

namespace creelctl {

enum class key { none, quit, up, down, page_up, page_down, first, last, resized };

class terminal {
public:
    // Takes over the terminal at stdin and stdout, and the signals that end creelctl or tell of a
    // new size. Throws: failure if there is none.
    terminal();
    ~terminal();
    terminal(const terminal&) = delete;
    terminal& operator=(const terminal&) = delete;

    // Draws the lines, each cut to the width; the rest of the screen becomes empty.
    void draw(const std::vector<std::string>& lines);
    // The next key, or none when so much time has passed. A signal that ends creelctl is `quit`.
    [[nodiscard]] key wait_key(std::chrono::steady_clock::time_point until);

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
    // The signal that asked for the end; 0: none.
    [[nodiscard]] static int ended_by() noexcept;

private:
    void learn_size() noexcept;
    [[nodiscard]] key key_of(const std::string& bytes) const noexcept;

    termios before_{};
    std::size_t rows_ = 24;
    std::size_t columns_ = 80;
};

// The first bytes of a text of UTF-8 that take so many columns, with one column for a character.
[[nodiscard]] std::string cut_to(const std::string& line, std::size_t columns);

} // namespace creelctl
